package main

import (
	"crypto/tls"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringfence/provisioning/appraise/appraisetest"
	"ringfence/provisioning/wire/device"
	"ringfence/provisioning/wire/enroll"
)

// batch is how many operations of each kind follow one another before the next
// kind's turn: all kinds are measured under the same load of the machine.
const batch = 10

// BenchmarkEnrollCPU gives the CPU time that a server process spends, in
// microseconds per operation on a connection of its own: handshake-us is a
// mutual TLS 1.3 handshake and nothing more, minimal-us a minimal server that
// certifies the key of a PKCS#10 request with nothing checked or stored,
// enroll-us provisiond with csrattrs, simpleenroll with evidence by a real TPM
// (swtpm), and the durable commit. The client's half is not in it.
func BenchmarkEnrollCPU(b *testing.B) {
	service, r := startServer(b)
	floor := startFloor(b)
	p := newPhone(b, "RF-0001", appraisetest.Good())
	r.deliver(p, true)
	client := floor.client(b)
	kinds := []struct {
		name string
		pid  int
		op   func() error
		us   []float64
	}{
		{name: "handshake", pid: floor.pid, op: func() error { return floor.handshake(client) }},
		{name: "minimal", pid: floor.pid, op: func() error { return floor.certify(client) }},
		{name: "enroll", pid: service, op: p.enrollOnce},
	}
	for b.Loop() {
		for i := range kinds {
			k := &kinds[i]
			before := cpuOf(b, k.pid)
			for range batch {
				if err := k.op(); err != nil {
					b.Fatalf("%s: %v", k.name, err)
				}
			}
			k.us = append(k.us, float64((cpuOf(b, k.pid)-before).Microseconds())/batch)
		}
	}
	for _, k := range kinds {
		slices.Sort(k.us)
		b.ReportMetric(mean(k.us), k.name+"-us")
	}
	enroll := mean(kinds[2].us)
	b.ReportMetric(enroll/mean(kinds[0].us), "x-handshake")
	b.ReportMetric(enroll/mean(kinds[1].us), "x-minimal")
	b.ReportMetric(0, "ns/op")
}

// mean leaves out the highest and the lowest tenth; samples are sorted.
func mean(samples []float64) float64 {
	cut := len(samples) / 10
	samples = samples[cut : len(samples)-cut]
	sum := 0.0
	for _, s := range samples {
		sum += s
	}
	return sum / float64(len(samples))
}

// BenchmarkEnrollRate gives enrolments per second on fresh connections, with 1
// and with 8 clients at once on the server's own processors; minimal is the
// server described above. The clients sign their evidence in software, as
// TPMs would, because eight emulated TPMs would be all that is measured.
func BenchmarkEnrollRate(b *testing.B) {
	const clients, span = 8, 1500 * time.Millisecond
	_, r := startServer(b)
	floor := startFloor(b)
	template := newPhone(b, "RF-0001", appraisetest.Good())
	client := floor.client(b)
	var phones []*software
	for i := range clients {
		phones = append(phones, r.software(template, device.ID("RF-100"+string(rune('0'+i)))))
	}
	for b.Loop() {
		for _, k := range []struct {
			name string
			n    int
			op   func(i int) error
		}{
			{"minimal-1/s", 1, func(int) error { return floor.certify(client) }},
			{"enroll-1/s", 1, func(i int) error { return phones[i].enrollOnce() }},
			{"minimal-8/s", clients, func(int) error { return floor.certify(client) }},
			{"enroll-8/s", clients, func(i int) error { return phones[i].enrollOnce() }},
		} {
			b.ReportMetric(rate(b, k.n, span, k.op), k.name)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// rate runs op from n goroutines for span and returns operations per second.
func rate(b *testing.B, n int, span time.Duration, op func(i int) error) float64 {
	b.Helper()
	var done atomic.Int64
	var running sync.WaitGroup
	begin := time.Now()
	for i := range n {
		running.Go(func() {
			for time.Since(begin) < span {
				if err := op(i); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	running.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}

// enrollOnce gets a management certificate with the IDevID.
func (p *phone) enrollOnce() error { return enrollBy(p, p.request) }

func enrollBy(p *phone, request requester) error {
	c := p.connect(&p.idevid)
	defer c.CloseIdleConnections()
	_, raw, err := exchange(c, "https://"+p.server+enroll.PathPrefix+string(enroll.Management)+"/", enroll.OpSimpleEnroll,
		func(attrs []byte, state *tls.ConnectionState) ([]byte, error) {
			return request(attrs, state, enroll.Management, nil)
		})
	if err != nil {
		return err
	}
	_, err = issuedBy(raw)
	return err
}
