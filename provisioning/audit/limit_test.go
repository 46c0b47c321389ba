package audit

import (
	"fmt"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	var l Limiter
	now := time.Unix(1000, 0)
	count := func(peer string, n int, now time.Time) (passed, last int) {
		for i := range n {
			ok, end := l.Admit(fmt.Sprintf("%s:%d", peer, 1000+i), now)
			if ok {
				passed++
			}
			if end {
				last++
			}
		}
		return passed, last
	}
	if passed, last := count("10.0.0.1", 500, now); passed != perMinute || last != 1 {
		t.Errorf("500 events of one address: %d pass, %d marked last; want %d and 1", passed, last, perMinute)
	}
	if passed, _ := count("10.0.0.2", 1, now); passed != 1 {
		t.Error("another address is shut out by the first")
	}
	if passed, _ := count("10.0.0.1", 1, now.Add(time.Minute)); passed != 1 {
		t.Error("an address is shut out after its minute")
	}
	total := 0
	for i := range 2 * maxAddresses {
		passed, _ := count(fmt.Sprintf("10.1.%d.%d", i>>8, i&255), 1, now.Add(time.Minute))
		total += passed
	}
	if len(l.seen) > maxAddresses+1 || total > maxAddresses+perMinute {
		t.Errorf("%d addresses are kept and %d events pass, want at most %d and %d", len(l.seen), total, maxAddresses+1, maxAddresses+perMinute)
	}
}
