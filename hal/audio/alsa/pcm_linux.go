package alsa

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"ringfence/hal/audio"
)

// pcm is what both directions share: descriptor, ring, pointers.
type pcm struct {
	file     *os.File
	fd       int
	format   audio.Format
	ring     []int16 // the mapped DMA ring, interleaved
	mapped   []byte
	size     uintptr // frames in the ring
	boundary uintptr // pointers count modulo this
	appl     uintptr // frames we consumed or produced, modulo boundary
	hw       uintptr // frames the hardware moved, as of the last sync
	sync     syncPtr
	poll     [1]unix.PollFd
	stats    audio.Stats
}

// open configures the device and maps its ring. On error the file is closed.
func open(f *os.File, format audio.Format, prot int) (*pcm, error) {
	if f == nil {
		return nil, fmt.Errorf("open PCM: %w", audio.ErrUnplugged)
	}
	p := &pcm{file: f, fd: -1, format: format}
	if err := p.configure(prot); err != nil {
		_ = p.close() // the first error is the one that matters
		return nil, fmt.Errorf("open PCM %s: %w", f.Name(), err)
	}
	return p, nil
}

func (p *pcm) configure(prot int) error {
	if err := p.format.Validate(); err != nil {
		return err
	}
	raw, err := p.file.SyscallConn()
	if err != nil {
		return err
	}
	// The file stays open until close, so its number stays valid. File.Fd
	// would switch the descriptor to blocking mode.
	if err := raw.Control(func(fd uintptr) { p.fd = int(fd) }); err != nil {
		return err
	}
	if err := p.hwParams(); err != nil {
		return fmt.Errorf("set hardware parameters: %w", err)
	}
	if err := p.swParams(); err != nil {
		return fmt.Errorf("set software parameters: %w", err)
	}
	n := int(p.size) * p.format.Channels * 2
	if p.mapped, err = unix.Mmap(p.fd, 0, n, prot, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map ring of %d bytes: %w", n, err)
	}
	p.ring = unsafe.Slice((*int16)(unsafe.Pointer(&p.mapped[0])), n/2)
	return p.prepare()
}

func (p *pcm) hwParams() error {
	h := anyParams()
	h.setMask(paramAccess, accessMmapInterleaved)
	h.setMask(paramFormat, formatS16LE)
	h.setMask(paramSubformat, subformatStd)
	h.setInterval(paramSampleBits, 16)
	h.setInterval(paramFrameBits, uint32(16*p.format.Channels))
	h.setInterval(paramChannels, uint32(p.format.Channels))
	h.setInterval(paramRate, uint32(p.format.Rate))
	h.setInterval(paramPeriodSize, uint32(p.format.PeriodFrames))
	h.setInterval(paramPeriods, uint32(p.format.Periods))
	if err := p.ioctl(ioc(iocRead|iocWrite, nrHwParams, unsafe.Sizeof(*h)), unsafe.Pointer(h)); err != nil {
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%+v: %w", p.format, audio.ErrFormat)
		}
		return err
	}
	p.size = uintptr(p.format.PeriodFrames * p.format.Periods)
	return nil
}

// anyParams allows everything; the caller narrows it.
func anyParams() *hwParams {
	h := &hwParams{rmask: ^uint32(0), info: ^uint32(0)}
	for i := range h.masks {
		for j := range h.masks[i].bits {
			h.masks[i].bits[j] = ^uint32(0)
		}
	}
	for i := range h.intervals {
		h.intervals[i].max = ^uint32(0)
	}
	return h
}

func (h *hwParams) setMask(param, bit uint) {
	h.masks[param] = mask{}
	h.masks[param].bits[bit/32] = 1 << (bit % 32)
}

func (h *hwParams) setInterval(param int, v uint32) {
	h.intervals[param-firstInterval] = interval{min: v, max: v, flags: intervalInteger}
}

func (p *pcm) swParams() error {
	s := swParams{
		periodStep:     1,
		availMin:       uintptr(p.format.PeriodFrames),
		xferAlign:      1,
		startThreshold: ^uintptr(0) >> 1, // we start it by hand
		stopThreshold:  p.size,           // stop on xrun
	}
	if err := p.ioctl(ioc(iocRead|iocWrite, nrSwParams, unsafe.Sizeof(s)), unsafe.Pointer(&s)); err != nil {
		return err
	}
	p.boundary = s.boundary
	if p.boundary < p.size {
		return fmt.Errorf("pointer boundary %d below ring size %d", p.boundary, p.size)
	}
	return nil
}

// prepare resets the pointers; the stream does not run yet.
func (p *pcm) prepare() error {
	if err := p.ioctl(ioc(0, nrPrepare, 0), nil); err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	p.appl, p.hw = 0, 0
	return nil
}

func (p *pcm) start() error {
	if err := p.ioctl(ioc(0, nrStart, 0), nil); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// syncPointers publishes appl and fetches the hardware pointer. It returns
// audio.ErrXrun when the stream stopped, audio.ErrUnplugged when it is gone.
func (p *pcm) syncPointers() error {
	p.sync.flags = syncHwsync | syncAvailMin
	p.sync.control.applPtr = p.appl
	err := p.ioctl(ioc(iocRead|iocWrite, nrSyncPtr, unsafe.Sizeof(p.sync)), unsafe.Pointer(&p.sync))
	if err != nil {
		return pcmError(err)
	}
	p.hw = p.sync.status.hwPtr
	switch p.sync.status.state {
	case stateXrun, stateSuspended, stateSetup:
		return audio.ErrXrun
	case stateDisconnected:
		return audio.ErrUnplugged
	}
	return nil
}

// pcmError maps the kernel's answers to the contract of hal/audio.
func pcmError(err error) error {
	switch {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ESTRPIPE):
		return audio.ErrXrun
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EBADFD):
		return audio.ErrUnplugged
	}
	return err
}

// distance is a - b on the circle of pointers.
func (p *pcm) distance(a, b uintptr) uintptr {
	if a >= b {
		return a - b
	}
	return a + p.boundary - b
}

func (p *pcm) advance(n int) {
	p.appl += uintptr(n)
	if p.appl >= p.boundary {
		p.appl -= p.boundary
	}
}

// period is the part of the ring that starts at the application pointer. The
// ring is a whole number of periods and appl moves by periods: it never wraps.
func (p *pcm) period() []int16 {
	at := int(p.appl%p.size) * p.format.Channels
	return p.ring[at : at+p.format.Samples()]
}

func (p *pcm) ioctl(req uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(p.fd), req, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// close stops the stream. The mapping goes before the descriptor: while it
// lives the kernel keeps the device busy.
func (p *pcm) close() error {
	if p.file == nil {
		return audio.ErrClosed
	}
	if p.fd >= 0 {
		_ = p.ioctl(ioc(0, nrDrop, 0), nil) // nothing runs when setup failed
	}
	var err error
	if p.mapped != nil {
		err = unix.Munmap(p.mapped)
		p.mapped, p.ring = nil, nil
	}
	err = errors.Join(err, p.file.Close())
	p.file, p.fd = nil, -1
	return err
}
