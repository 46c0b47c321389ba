package display

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is an open framebuffer.
type Device struct {
	file   *os.File
	format Format
	buf    []byte
}

var _ Screen = (*Device)(nil)

// linux/fb.h
const (
	fbioGetVScreenInfo = 0x4600
	fbioPutVScreenInfo = 0x4601
	fbioGetFScreenInfo = 0x4602
	fbActivateForce    = 128 // set the mode even if it is the same
	wordActivate       = 21  // of fb_var_screeninfo
	fbTrueColor        = 2
	sizeVar            = 160 // struct fb_var_screeninfo: 40 words of 32 bits, on every architecture
	sizeFix            = 80  // struct fb_fix_screeninfo, at most (64 bit)
)

// Open opens a framebuffer, e.g. /dev/fb0. A framebuffer that is not 32-bit
// true colour is refused with ErrFormat.
func Open(name string) (*Device, error) {
	file, err := os.OpenFile(name, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open screen: %w", err)
	}
	d, err := New(file)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return d, nil
}

// New takes over an open framebuffer, such as a descriptor that was passed.
func New(file *os.File) (*Device, error) {
	if file == nil {
		return nil, errors.New("screen: no file")
	}
	var variable [sizeVar]byte
	var fixed [sizeFix]byte
	if err := ask(file, fbioGetVScreenInfo, unsafe.Pointer(&variable)); err != nil {
		return nil, fmt.Errorf("read the screen's mode: %w", err)
	}
	if err := ask(file, fbioGetFScreenInfo, unsafe.Pointer(&fixed)); err != nil {
		return nil, fmt.Errorf("read the screen's layout: %w", err)
	}
	format, err := parse(variable[:], fixed[:], int(unsafe.Sizeof(uintptr(0))))
	if err != nil {
		return nil, err
	}
	if err := activate(file, &variable); err != nil {
		return nil, err
	}
	return &Device{file: file, format: format, buf: make([]byte, format.Stride*format.Size.Y)}, nil
}

// activate has the driver set the mode that it reported. Where no console runs
// on the framebuffer nobody else does, and the screen stays dark.
func activate(file *os.File, variable *[sizeVar]byte) error {
	binary.NativeEndian.PutUint32(variable[4*wordActivate:], fbActivateForce) // FB_ACTIVATE_NOW is 0
	if err := ask(file, fbioPutVScreenInfo, unsafe.Pointer(variable)); err != nil {
		return fmt.Errorf("set the screen's mode: %w", err)
	}
	return nil
}

func ask(file *os.File, request uintptr, answer unsafe.Pointer) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var errno unix.Errno
	if err := raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(answer))
	}); err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// parse reads fb_var_screeninfo and fb_fix_screeninfo of a kernel with words
// of the given size in bytes.
func parse(variable, fixed []byte, word int) (Format, error) {
	at := func(i int) int { return int(binary.NativeEndian.Uint32(variable[4*i:])) }
	// 0 xres, 1 yres, 2-3 virtual, 4 xoffset, 5 yoffset, 6 bits_per_pixel, 7
	// grayscale, then red, green, blue, transp with offset, length, msb_right.
	if at(6) != 32 || at(7) != 0 || at(9) != 8 || at(12) != 8 || at(15) != 8 {
		return Format{}, ErrFormat
	}
	// id[16], smem_start (long), smem_len, type, type_aux, visual: 4 bytes
	// each, xpanstep, ypanstep, ywrapstep: 2 bytes each, line_length.
	visual := 16 + word + 12
	if binary.NativeEndian.Uint32(fixed[visual:]) != fbTrueColor {
		return Format{}, ErrFormat
	}
	line := visual + 4 + 6 + 2 // two bytes of padding before a word of 32 bits
	f := Format{
		Size:   image.Pt(at(0), at(1)),
		Stride: int(binary.NativeEndian.Uint32(fixed[line:])),
		Red:    at(8) / 8, Green: at(11) / 8, Blue: at(14) / 8,
	}
	if at(8)%8 != 0 || at(11)%8 != 0 || at(14)%8 != 0 {
		return Format{}, ErrFormat
	}
	return f, f.Validate()
}

// Size is the visible area in pixels.
func (d *Device) Size() image.Point { return d.format.Size }

// Show writes the picture; one write is one update for deferred-io drivers.
func (d *Device) Show(picture *image.RGBA) error {
	if err := d.format.Pack(d.buf, picture); err != nil {
		return err
	}
	if _, err := d.file.WriteAt(d.buf, 0); err != nil {
		return fmt.Errorf("write to screen: %w", err)
	}
	return nil
}

// Close leaves the last picture on the screen.
func (d *Device) Close() error { return d.file.Close() }
