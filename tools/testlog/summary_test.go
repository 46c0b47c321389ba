package main

import (
	"strings"
	"testing"
)

const passing = `{"Action":"start","Package":"ringfence/a"}
{"Action":"output","Package":"ringfence/a","Test":"TestX","Output":"quiet\n"}
{"Action":"pass","Package":"ringfence/a","Test":"TestX"}
{"Action":"output","Package":"ringfence/a","Output":"ok  \tringfence/a\t0.1s\n"}
{"Action":"pass","Package":"ringfence/a"}
`

func TestSummarize(t *testing.T) {
	tests := []struct {
		name, in string
		ok       bool
		want     []string
	}{
		{"pass", passing, true, []string{"ok  \tringfence/a\t0.1s", "1 passed, 0 failed, 0 skipped"}},
		{"empty", "", false, []string{"no package was tested"}},
		{"cut off", `{"Action":"start","Package":"ringfence/b"}` + "\n" + passing, false, []string{"cut off: ringfence/b"}},
		{"build failed", `{"Action":"build-output","Output":"x.go:1: bad\n"}` + "\n" + `{"Action":"build-fail"}` + "\n" + passing, false, []string{"x.go:1: bad"}},
		{"skip named", `{"Action":"output","Package":"ringfence/a","Test":"TestY","Output":"    y_test.go:3: no boards here\n"}
{"Action":"skip","Package":"ringfence/a","Test":"TestY"}
` + passing, true, []string{"SKIPPED 1:", "SKIP ringfence/a TestY: y_test.go:3: no boards here"}},
		{"fail", `{"Action":"output","Package":"ringfence/c","Test":"TestZ","Output":"boom\n"}
{"Action":"fail","Package":"ringfence/c","Test":"TestZ"}
{"Action":"output","Package":"ringfence/c","Output":"FAIL\tringfence/c\t0.1s\n"}
{"Action":"fail","Package":"ringfence/c"}
` + passing, false, []string{"boom", "FAIL\tringfence/c\t0.1s", "1 failed"}},
		{"not JSON", "go: something\n" + passing, true, []string{"go: something"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			ok, err := Summarize(strings.NewReader(tt.in), &out)
			if err != nil || ok != tt.ok {
				t.Errorf("Summarize = %v, %v, want %v", ok, err, tt.ok)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, out.String())
				}
			}
		})
	}
}
