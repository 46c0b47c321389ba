package measure

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNotSecure reports that UEFI Secure Boot does not guard this boot. What
// proves it to the service is PCR 7; this look is for the person at the phone.
var ErrNotSecure = errors.New("UEFI Secure Boot does not guard this boot")

// Variables of UEFI 2.10, section 3.3, in EFI_GLOBAL_VARIABLE. efivarfs puts
// four bytes of attributes before the value.
const (
	secureBootVar = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	setupModeVar  = "SetupMode-8be4df61-93ca-11d2-aa0d-00e098032b8c"
)

// SecureBoot returns nil when the variables under dir
// ("/sys/firmware/efi/efivars" on the phone) say that Secure Boot is on and the
// platform key is enrolled; any other error than ErrNotSecure is one of reading.
func SecureBoot(dir string) error {
	for _, v := range []struct {
		name string
		want byte
	}{{secureBootVar, 1}, {setupModeVar, 0}} {
		raw, err := os.ReadFile(filepath.Join(dir, v.name))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("no variable %.10s: %w", v.name, ErrNotSecure)
		}
		if err != nil {
			return fmt.Errorf("read variable %.10s: %w", v.name, err)
		}
		if len(raw) != 5 || raw[4] != v.want {
			return fmt.Errorf("variable %.10s is %x: %w", v.name, raw, ErrNotSecure)
		}
	}
	return nil
}
