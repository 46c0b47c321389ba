// Command guest is the whole userland of the launcher's own boot test: it
// reports keys and the hook switch, drives the lamp, paints the screen and
// plays what the microphone hears. It is not part of any phone.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
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
	f, err := os.OpenFile("/dev/fb0", os.O_RDWR, 0)
	if err != nil {
		fmt.Println("guest: screen:", err)
		return
	}
	row := bytes.Repeat([]byte{0x20, 0x40, 0xc0, 0}, 480)
	for range 320 {
		if _, err := f.Write(row); err != nil {
			fmt.Println("guest: screen:", err)
			break
		}
	}
	fmt.Println("guest: painted")
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

// echo copies capture to playback, 16 kHz mono, 8 periods of 20 ms.
func echo() error {
	capture, err := open("/dev/snd/pcmC0D0c")
	if err != nil {
		return err
	}
	playback, err := open("/dev/snd/pcmC0D0p")
	if err != nil {
		return err
	}
	period := make([]byte, 640)
	for range 5 {
		_ = transfer(playback, 0x40184150, period)
	}
	fmt.Println("guest: sound runs")
	xruns := 0
	for last := time.Now(); ; {
		if err := transfer(capture, 0x80184151, period); err != nil {
			xruns++
			_ = ioctl(capture, 0x4140, nil)
			continue
		}
		if err := transfer(playback, 0x40184150, period); err != nil {
			xruns++
			_ = ioctl(playback, 0x4140, nil)
			for range 5 { // without a new lead every period would be late
				_ = transfer(playback, 0x40184150, make([]byte, len(period)))
			}
		}
		if time.Since(last) > 5*time.Second {
			fmt.Println("guest: xruns", xruns)
			last = time.Now()
		}
	}
}
