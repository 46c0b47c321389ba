// Package sysctl sets the kernel's switches that a phone wants otherwise than
// their default: no redirects and no forwarding, no addresses and messages of
// the kernel for the roles, no role that traces another. It sets what is listed
// here and reads nothing from outside.
//
// Sources: Linux Documentation/admin-guide/sysctl, networking/ip-sysctl.rst,
// admin-guide/LSM/Yama.rst.
package sysctl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// setting is one file below /proc/sys; a * stands for every network interface,
// since those that exist already do not take the value of "default".
type setting struct {
	path, value string
	optional    bool // where the kernel lacks the feature there is nothing to switch off
}

func settings() []setting {
	return []setting{
		{"net/ipv4/ip_forward", "0", false}, // first: a change of it resets those below
		{"net/ipv4/conf/*/accept_redirects", "0", false},
		{"net/ipv4/conf/*/secure_redirects", "0", false},
		{"net/ipv4/conf/*/send_redirects", "0", false},
		{"net/ipv4/conf/*/accept_source_route", "0", false},
		{"net/ipv4/conf/*/rp_filter", "1", false}, // RFC 3704, strict: there is one way out
		{"net/ipv4/conf/*/arp_ignore", "1", false},
		{"net/ipv4/icmp_echo_ignore_broadcasts", "1", false},
		{"net/ipv4/tcp_syncookies", "1", true},
		{"kernel/kptr_restrict", "2", false},
		{"kernel/dmesg_restrict", "1", false},
		{"kernel/yama/ptrace_scope", "2", false},
		{"kernel/randomize_va_space", "2", false},
		{"kernel/perf_event_paranoid", "3", true},
		{"kernel/unprivileged_bpf_disabled", "1", true},
		{"kernel/kexec_load_disabled", "1", true},
		{"kernel/sysrq", "0", true},
		{"user/max_user_namespaces", "0", true},
		{"vm/unprivileged_userfaultfd", "0", true},
		{"fs/suid_dumpable", "0", true},
		{"fs/protected_symlinks", "1", false},
		{"fs/protected_hardlinks", "1", false},
		{"fs/protected_fifos", "2", false},
		{"fs/protected_regular", "2", false},
	}
}

// Apply sets all switches below root ("/proc/sys" on the phone) and reads each
// back. The error names the first that is missing or keeps another value.
func Apply(root string) error {
	for _, s := range settings() {
		files, err := filepath.Glob(filepath.Join(root, s.path))
		if err != nil {
			return fmt.Errorf("kernel switch %s: %w", s.path, err)
		}
		if len(files) == 0 && !s.optional {
			return fmt.Errorf("kernel switch %s: the kernel does not have it", s.path)
		}
		for _, f := range files {
			if err := set(f, s.value); err != nil {
				return fmt.Errorf("kernel switch %s: %w", s.path, err)
			}
		}
	}
	return nil
}

func set(file, value string) error {
	if err := os.WriteFile(file, []byte(value), 0); err != nil {
		return err
	}
	got, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if text := strings.TrimSpace(string(got)); text != value {
		return fmt.Errorf("reads back as %q, want %q", text, value)
	}
	return nil
}
