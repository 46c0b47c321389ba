package callserver

import (
	"context"
	"testing"
	"time"

	"ringfence/firmware/sip"
)

// BenchmarkRegister is connect, mutual TLS 1.3 handshake and REGISTER against
// a real Kamailio: what a reconnecting phone costs.
func BenchmarkRegister(b *testing.B) {
	l := newLab(b)
	l.good("PHONE-A", "100").stop()
	for b.Loop() {
		p := l.good("PHONE-A", "100")
		b.StopTimer()
		p.stop()
		b.StartTimer()
	}
}

// BenchmarkInviteTo200 is a whole INVITE, 180, 200 and ACK between two phones
// through a real Kamailio; the called answers at once.
func BenchmarkInviteTo200(b *testing.B) {
	l := newLab(b)
	x, y := l.good("PHONE-A", "100"), l.good("PHONE-B", "101")
	for b.Loop() {
		if err := x.Dial(context.Background(), "101"); err != nil {
			b.Fatal(err)
		}
		y.expect(sip.RingingIn)
		if err := y.Answer(); err != nil {
			b.Fatal(err)
		}
		for e := range x.events { // the 180 may be overtaken by the 200
			if e.Kind == sip.Answered {
				break
			}
		}
		b.StopTimer()
		y.expect(sip.Answered)
		<-x.media.started
		<-y.media.started
		time.Sleep(5 * time.Millisecond) // the ACK crosses
		if err := x.Hangup(); err != nil {
			b.Fatal(err)
		}
		x.expect(sip.Ended)
		y.expect(sip.Ended)
		b.StartTimer()
	}
}
