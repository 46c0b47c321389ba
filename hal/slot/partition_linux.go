package slot

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ringfence/hal"
)

// FindPartition returns the one block device whose GPT name is label. sys is
// /sys/class/block, dev is /dev.
func FindPartition(sys, dev, label string) (string, error) {
	entries, err := os.ReadDir(sys)
	if err != nil {
		return "", fmt.Errorf("list block devices: %w", err)
	}
	var found []string
	for _, e := range entries {
		raw, err := os.ReadFile(filepath.Join(sys, e.Name(), "uevent"))
		if err == nil && strings.Contains("\n"+string(raw), "\nPARTNAME="+label+"\n") {
			found = append(found, filepath.Join(dev, e.Name()))
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("partition %q: %w", label, hal.ErrAbsent)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d partitions named %q, want 1", len(found), label)
}
