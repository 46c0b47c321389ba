// Command guest is the whole userland of the launcher's own boot test: it
// reports keys and the hook switch, drives the lamp, paints the screen and
// plays what the microphone hears, with the drivers that a phone has. It is
// not part of any phone.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ringfence/boards/virt64"
	"ringfence/hal/audio"
	"ringfence/hal/audio/alsa"
)

func main() {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			fmt.Println("guest: mount", m[1], err)
		}
	}
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err == nil {
		os.Stdout = console
	}
	paint()
	devices, _ := filepath.Glob("/dev/input/event*")
	for _, path := range devices {
		if f, err := os.Open(path); err == nil { // here: the first key may come at once
			go watch(f)
		}
	}
	fmt.Println("guest: tpm", exists("/dev/tpm0"), "serial", exists("/dev/ttyS0"), "net", exists("/sys/class/net/eth0"), "watchdog", exists("/dev/watchdog"))
	go factory()
	micSwitch()
	if err := echo(); err != nil {
		fmt.Println("guest: sound:", err)
	}
	select {}
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func factory() {
	f, err := os.OpenFile("/dev/ttyS0", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return
	}
	if t, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
		t.Lflag, t.Iflag, t.Oflag = 0, 0, 0
		_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, t)
	}
	b := make([]byte, 64)
	for {
		n, err := f.Read(b)
		if err != nil {
			return
		}
		_, _ = f.Write(bytes.ToUpper(b[:n]))
	}
}

func paint() {
	screen, err := virt64.Board().OpenScreen()
	if err != nil {
		fmt.Println("guest: screen:", err)
		return
	}
	picture := image.NewRGBA(image.Rectangle{Max: screen.Size()})
	draw.Draw(picture, picture.Rect, image.NewUniform(color.RGBA{R: 0xc0, G: 0x40, B: 0x20, A: 0xff}), image.Point{}, draw.Src)
	if err := screen.Show(picture); err != nil {
		fmt.Println("guest: screen:", err)
		return
	}
	fmt.Println("guest: painted", screen.Size())
}

// micSwitch turns the codec's microphone switch off and on again.
func micSwitch() {
	s, err := virt64.Board().OpenMicSwitch()
	if err != nil {
		fmt.Println("guest: mic switch:", err)
		return
	}
	fmt.Println("guest: mic switch off:", s.Set(false))
	fmt.Println("guest: mic switch on:", s.Set(true))
	_ = s.Close() // nothing is written
}

func watch(f *os.File) {
	b := make([]byte, 24)
	for {
		if n, err := f.Read(b); err != nil || n < 24 {
			return
		}
		kind, code, value := binary.LittleEndian.Uint16(b[16:]), binary.LittleEndian.Uint16(b[18:]), binary.LittleEndian.Uint32(b[20:])
		if kind == 1 && value == 1 {
			fmt.Printf("guest: key %d\n", code)
		}
		if kind == 5 {
			fmt.Printf("guest: hook %d\n", value)
			_ = os.WriteFile("/sys/class/leds/mic:red/brightness", []byte(fmt.Sprint(value)), 0)
		}
	}
}

// echo copies capture to playback in the format of a call.
func echo() error {
	in, out, err := sound()
	if err != nil {
		return err
	}
	pcm := make([]int16, in.Format().Samples())
	fmt.Println("guest: sound runs")
	for last := time.Now(); ; {
		if err := in.Read(pcm); err != nil && !errors.Is(err, audio.ErrXrun) {
			return err
		}
		if err := out.Write(pcm); err != nil && !errors.Is(err, audio.ErrXrun) {
			return err
		}
		if time.Since(last) > time.Second {
			fmt.Printf("guest: xruns %d %d dropped %d\n", in.Stats().Xruns, out.Stats().Xruns, out.Stats().Dropped)
			last = time.Now()
		}
	}
}

func sound() (*alsa.Capture, *alsa.Playback, error) {
	board := virt64.Board()
	capture, err := board.OpenCapture()
	if err != nil {
		return nil, nil, err
	}
	in, err := alsa.OpenCapture(capture, audio.Wideband())
	if err != nil {
		return nil, nil, err
	}
	playback, err := board.OpenPlayback()
	if err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	out, err := alsa.OpenPlayback(playback, audio.Wideband())
	if err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return in, out, nil
}
