package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ringfence/provisioning/admin"
	"ringfence/provisioning/lockcfg"
)

// newConfigCommand is "ringfence config ...".
func newConfigCommand() *cobra.Command {
	group := &cobra.Command{Use: "config", Short: "See and change settings of the site and of phones", Args: cobra.NoArgs}
	var site bool
	show := &cobra.Command{Use: "show {DEVICE | --site}", Short: "Show settings", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, _, err := configScope(site, args)
			if err != nil {
				return err
			}
			return query(cmd, http.MethodGet, "/v1/config/"+url.PathEscape(scope), nil, showSettings)
		}}
	set := &cobra.Command{Use: "set {DEVICE | --site} KEY=VALUE...", Short: "Change settings; an empty value removes one",
		Example: "  ringfence config set RF-0001 line.user=100 line.display=\"Alice\"\n  ringfence config set --site media.suites=AEAD_AES_256_GCM",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, pairs, err := configScope(site, args)
			if err != nil {
				return err
			}
			body, err := changes(pairs)
			if err != nil {
				return err
			}
			return query(cmd, http.MethodPatch, "/v1/config/"+url.PathEscape(scope), body, showSettings)
		}}
	for _, cmd := range []*cobra.Command{show, set} {
		cmd.Flags().BoolVar(&site, "site", false, "the settings that every phone starts from")
	}
	group.AddCommand(show, set)
	return group
}

func configScope(site bool, args []string) (string, []string, error) {
	if site {
		return lockcfg.Site, args, nil
	}
	if len(args) == 0 || strings.Contains(args[0], "=") {
		return "", nil, fmt.Errorf("name a device, or give --site")
	}
	return args[0], args[1:], nil
}

func changes(pairs []string) ([]byte, error) {
	set := make(lockcfg.Settings)
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q: want KEY=VALUE", pair)
		}
		set[key] = value
	}
	if len(set) == 0 {
		return nil, fmt.Errorf("nothing to set: give KEY=VALUE")
	}
	return json.Marshal(set)
}

func showSettings(w io.Writer, s admin.Settings) {
	for _, key := range slices.Sorted(maps.Keys(s.Effective)) {
		origin := ""
		if _, own := s.Own[key]; !own {
			origin = "  (inherited)"
		}
		fmt.Fprintf(w, "%s=%s%s\n", key, s.Effective[key], origin)
	}
}
