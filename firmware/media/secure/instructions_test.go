package secure

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
)

// BenchmarkSealOpenInstructions counts instructions per packet with callgrind,
// as the difference of two loop counts: the one measure of cryptography that
// repeats on any machine. x-pion-reused is our count over pion's.
func BenchmarkSealOpenInstructions(b *testing.B) {
	if _, err := exec.LookPath("valgrind"); err != nil {
		b.Skip("SKIP: valgrind is not installed: no instruction counts")
	}
	for _, s := range suites() {
		b.Run(suiteName(s), func(b *testing.B) {
			var us, pion float64
			for b.Loop() {
				us, pion = instructions(b, "ours", s), instructions(b, "pion-reused", s)
			}
			b.ReportMetric(us, "ours-insn")
			b.ReportMetric(pion, "pion-reused-insn")
			b.ReportMetric(us/pion, "x-pion-reused")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func instructions(b *testing.B, contender string, s Suite) float64 {
	b.Helper()
	const few, many = 1000, 5000 // packets
	name := fmt.Sprintf("^BenchmarkSealOpen$/^%s$/^%s$", contender, suiteName(s))
	return float64(collected(b, name, many)-collected(b, name, few)) / (many - few)
}

// collected is the number of instructions of this binary's benchmark name.
// Without preemption signals and garbage collection the counts repeat.
func collected(b *testing.B, name string, packets int) int64 {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", os.Args[0],
		"-test.run=^$", "-test.bench="+name, "-test.cpu=1", fmt.Sprintf("-test.benchtime=%dx", packets))
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOGC=off", "GOMAXPROCS=1")
	text, err := cmd.CombinedOutput()
	if err != nil {
		b.Fatalf("valgrind: %v\n%s", err, text)
	}
	match := regexp.MustCompile(`Collected : (\d+)`).FindSubmatch(text)
	if match == nil {
		b.Fatalf("no count in what valgrind printed:\n%s", text)
	}
	n, err := strconv.ParseInt(string(match[1]), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
