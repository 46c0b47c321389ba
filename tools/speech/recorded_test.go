package speech

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func recorded(t *testing.T, name string) []int16 {
	t.Helper()
	pcm, rate, err := ReadWAV("testdata/" + name + ".wav")
	if err != nil {
		t.Fatal(err)
	}
	if rate != Rate {
		t.Fatalf("%s has %d Hz, want %d", name, rate, Rate)
	}
	return pcm
}

// A recording of a real call passes as it is and fails when it is spoiled: the
// check of the end-to-end tests is no formality.
func TestCompareRecordedCall(t *testing.T) {
	sent, heard, other := recorded(t, "a-to-b.sent"), recorded(t, "a-to-b.heard"), recorded(t, "b-to-a.heard")
	whole := Compare(sent, heard, Rate)
	at := int(whole.Lag.Seconds() * Rate) // of the utterance in the recording
	third := len(sent) / 3
	silenced := slices.Clone(heard)
	clear(silenced[at+third : at+third+Rate])
	swapped := slices.Concat(heard[:at], heard[at+third:at+2*third], heard[at:at+third], heard[at+2*third:])
	for _, test := range []struct {
		name  string
		heard []int16
		want  bool
	}{
		{"as it was", heard, true},
		{"end cut off", heard[:at+2*third], false},
		{"beginning cut off", heard[at+third:], false},
		{"a second silenced", silenced, false},
		{"parts swapped", swapped, false},
		{"another number, heard in the same call", other, false},
		{"30 % loss with concealment", lossy(heard, 0.3, rand.New(rand.NewPCG(3, 3))), false},
		{"twice as fast", Resample(heard, 2*Rate, Rate), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Compare(sent, test.heard, Rate)
			t.Logf("%+v", got)
			if got.Pass() != test.want {
				t.Errorf("Compare(sent, %s) = %+v, want pass = %v", test.name, got, test.want)
			}
		})
	}
}
