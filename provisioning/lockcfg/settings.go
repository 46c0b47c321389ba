package lockcfg

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/lock"
)

// lineUser is the setting that names a phone's line; no two phones share one.
const lineUser = "line.user"

// Settings maps the name of a setting, such as "line.user", to its text.
type Settings map[string]string

// Defaults are the settings of a new site whose call server is sipName.
func Defaults(sipName, domain string) Settings {
	return Settings{
		"call_server.address": sipName + ":5061", "call_server.server_name": sipName, "call_server.domain": domain,
		"media.codecs": "G722,PCMA,PCMU", "media.suites": "AEAD_AES_256_GCM",
		"media.port_min": "20000", "media.port_max": "20099",
		"policy.emergency_numbers": "112,911", "management.report_seconds": "30",
	}
}

// setting applies text to a configuration; the phone-only ones make no sense
// for a whole site.
type setting struct {
	phoneOnly bool
	apply     func(*lock.Config, string) error
}

// table lists every setting of schema 1. policy.radios is not among them: it
// has one value.
func table() map[string]setting {
	return map[string]setting{
		"call_server.address":       {apply: func(c *lock.Config, s string) error { c.CallServer.Address = s; return nil }},
		"call_server.server_name":   {apply: func(c *lock.Config, s string) error { c.CallServer.ServerName = s; return nil }},
		"call_server.domain":        {apply: func(c *lock.Config, s string) error { c.CallServer.Domain = s; return nil }},
		lineUser:                    {true, func(c *lock.Config, s string) error { c.Lines[0].User = s; return nil }},
		"line.display":              {true, func(c *lock.Config, s string) error { c.Lines[0].Display = s; return nil }},
		"media.codecs":              {apply: func(c *lock.Config, s string) error { c.Media.Codecs = split[lock.Codec](s); return nil }},
		"media.suites":              {apply: func(c *lock.Config, s string) error { c.Media.Suites = split[lock.Suite](s); return nil }},
		"media.port_min":            {apply: func(c *lock.Config, s string) error { return port(&c.Media.PortMin, s) }},
		"media.port_max":            {apply: func(c *lock.Config, s string) error { return port(&c.Media.PortMax, s) }},
		"policy.emergency_numbers":  {apply: func(c *lock.Config, s string) error { c.Policy.EmergencyNumbers = split[string](s); return nil }},
		"display.label":             {apply: func(c *lock.Config, s string) error { c.Display.Label = s; return nil }},
		"management.report_seconds": {apply: func(c *lock.Config, s string) (err error) { c.Management.ReportSeconds, err = strconv.Atoi(s); return }},
	}
}

// check tries one change on a configuration that is good otherwise.
func check(scope, key, value string) error {
	s, ok := table()[key]
	if !ok {
		return fmt.Errorf("unknown setting %q; settings are %s", key, strings.Join(slices.Sorted(maps.Keys(table())), ", "))
	}
	if s.phoneOnly && scope == Site {
		return fmt.Errorf("setting %q belongs to one phone, not to the site", key)
	}
	if value == "" {
		return nil
	}
	sample := Defaults("sip.example", "example")
	sample["line.user"] = "100"
	if key == "media.port_min" || key == "media.port_max" {
		var p uint16
		return port(&p, value) // the range is judged when both are known
	}
	sample[key] = value
	_, err := sample.render("RF-0000", 1, time.Unix(1, 0), [][]byte{{0}})
	return err
}

// render makes the configuration; the result is valid.
func (s Settings) render(id device.ID, version uint64, now time.Time, cas [][]byte) (*lock.Config, error) {
	c := &lock.Config{Schema: lock.Schema, Device: id, Version: version, Issued: now.UTC().Truncate(time.Second),
		Lines: make([]lock.Line, 1), Policy: lock.Policy{Radios: lock.RadiosOff}}
	c.CallServer.CAs = cas
	known := table()
	for _, key := range slices.Sorted(maps.Keys(s)) {
		entry, ok := known[key]
		if !ok {
			return nil, fmt.Errorf("unknown setting %q", key)
		}
		if err := entry.apply(c, s[key]); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return c, c.Validate()
}

func split[T ~string](s string) []T {
	var list []T
	for part := range strings.SplitSeq(s, ",") {
		list = append(list, T(strings.TrimSpace(part)))
	}
	return list
}

func port(p *uint16, s string) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return fmt.Errorf("port %q: want a number up to 65535", s)
	}
	*p = uint16(n)
	return nil
}
