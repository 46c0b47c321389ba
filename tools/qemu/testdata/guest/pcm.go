package main

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

func ioctl(fd int, request uintptr, p unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(p)); errno != 0 {
		return errno
	}
	return nil
}

// transfer is SNDRV_PCM_IOCTL_WRITEI_FRAMES or READI_FRAMES of one period.
func transfer(fd int, request uintptr, pcm []byte) error {
	x := struct {
		result int64
		buffer unsafe.Pointer
		frames uint64
	}{buffer: unsafe.Pointer(&pcm[0]), frames: uint64(len(pcm) / 2)}
	return ioctl(fd, request, unsafe.Pointer(&x))
}

// open sets struct snd_pcm_hw_params (608 bytes: flags, 3+5 masks of 32 bytes,
// 12+9 intervals of 12 bytes, ...) for interleaved 16-bit mono at 16 kHz.
func open(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	p := make([]byte, 608)
	for i := range 8 {
		for j := range 32 {
			p[4+32*i+j] = 0xff
		}
	}
	for i := range 21 {
		binary.LittleEndian.PutUint32(p[4+256+12*i+4:], 0xffffffff)
	}
	mask := func(n, bit int) { copy(p[4+32*n:], make([]byte, 32)); p[4+32*n] = 1 << bit }
	interval := func(n, value int) {
		b := p[4+256+12*(n-8):]
		binary.LittleEndian.PutUint32(b, uint32(value))
		binary.LittleEndian.PutUint32(b[4:], uint32(value))
		binary.LittleEndian.PutUint32(b[8:], 4) // integer
	}
	mask(0, 3) // SNDRV_PCM_ACCESS_RW_INTERLEAVED
	mask(1, 2) // SNDRV_PCM_FORMAT_S16_LE
	mask(2, 0)
	interval(10, 1)                                    // channels
	interval(11, 16000)                                // rate
	interval(13, 320)                                  // period size
	interval(15, 8)                                    // periods
	binary.LittleEndian.PutUint32(p[512:], 0xffffffff) // rmask
	if err := ioctl(fd, 0xc2604111, unsafe.Pointer(&p[0])); err != nil {
		return 0, fmt.Errorf("%s: hardware parameters: %w", path, err)
	}
	if err := ioctl(fd, 0x4140, nil); err != nil { // SNDRV_PCM_IOCTL_PREPARE
		return 0, fmt.Errorf("%s: prepare: %w", path, err)
	}
	return fd, nil
}
