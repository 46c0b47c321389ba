// Command probe is a PID 1 that tells on the console what the TPM, the event
// log and the device tree say, then powers off. tools/image boots it to learn a
// firmware's PCR 0 and to check computed reference values. It is never part of
// a phone.
package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"ringfence/firmware/measure"
	"ringfence/provisioning/wire/evidence"
)

// pcrs is how many registers a TPM 2.0 has for the platform.
const pcrs = 16

func main() {
	if err := tell(); err != nil {
		fmt.Printf("PROBE error %v\n", err)
	}
	fmt.Println("PROBE done")
	if err := syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Printf("PROBE error power off: %v\n", err)
	}
	select {}
}

func tell() error {
	for _, m := range [][2]string{{"proc", "/proc"}, {"sysfs", "/sys"}, {"securityfs", "/sys/kernel/security"}} {
		if err := syscall.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[1], err)
		}
	}
	for i := range pcrs {
		raw, err := os.ReadFile(fmt.Sprintf("/sys/class/tpm/tpm0/pcr-sha256/%d", i))
		if err != nil {
			return err
		}
		fmt.Printf("PROBE pcr%d %s\n", i, strings.ToLower(strings.TrimSpace(string(raw))))
	}
	fmt.Printf("PROBE radios %q\n", radios())
	tree, err := os.ReadFile("/sys/firmware/fdt")
	if err != nil {
		return err
	}
	digest, digestErr := measure.DeviceTree(tree)
	fmt.Printf("PROBE devicetree %x\n", digest)
	fmt.Printf("PROBE fdt %s\n", base64.StdEncoding.EncodeToString(tree))
	log, err := os.ReadFile("/sys/kernel/security/tpm0/binary_bios_measurements")
	fmt.Printf("PROBE log %s\n", base64.StdEncoding.EncodeToString(log))
	return errors.Join(digestErr, err)
}

// radios lists everything in the kernel's radio classes.
func radios() []string {
	var found []string
	for _, place := range evidence.RadioPlaces() {
		names, err := filepath.Glob(place)
		if err != nil {
			panic(err) // the pattern is a constant
		}
		found = append(found, names...)
	}
	return found
}
