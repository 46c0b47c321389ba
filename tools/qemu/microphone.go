package qemu

import (
	"encoding/binary"
	"sync"
	"time"
)

// Microphone plays queued samples to the guest while the guest captures, and
// silence when nothing is queued. Queued samples wait as long as nobody
// captures. It is safe for concurrent use.
type Microphone struct {
	rate int

	mu      sync.Mutex
	queue   []int16
	open    bool
	opened  time.Time
	given   int // frames since opened
	drained chan struct{}
}

func newMicrophone(rate int) *Microphone {
	return &Microphone{rate: rate, drained: make(chan struct{})}
}

// Rate is the sample rate in hertz that Play expects.
func (m *Microphone) Rate() int { return m.rate }

// Play appends mono samples to the queue and returns a channel that is closed
// when the guest has taken them all, or Clear was called. pcm is copied.
func (m *Microphone) Play(pcm []int16) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 {
		m.drained = make(chan struct{})
	}
	m.queue = append(m.queue, pcm...)
	if len(m.queue) == 0 {
		close(m.drained)
	}
	return m.drained
}

// Clear drops what has not been played yet.
func (m *Microphone) Clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) > 0 {
		m.queue = nil
		close(m.drained)
	}
}

// Open reports whether the guest is capturing at this moment.
func (m *Microphone) Open() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

func (m *Microphone) handle(call *dbusMessage) *dbusMessage {
	switch call.member {
	case "Read": // Read(t id, t size) -> ay
		d := &dbusDecoder{bytes: call.body}
		d.uint64()
		size := int(min(d.uint64(), dbusMaxMessage/2))
		e := &dbusEncoder{}
		pcm := m.read(size/bytesPerFrame, time.Now())
		e.uint32(uint32(len(pcm)))
		return &dbusMessage{signature: "ay", body: append(e.bytes, pcm...)}
	case "SetEnabled":
		m.setOpen(enabled(call), time.Now())
	case "Fini":
		m.setOpen(false, time.Now())
	}
	return common(call)
}

func (m *Microphone) setOpen(open bool, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if open {
		m.opened, m.given = now, 0
	}
	m.open = open
}

// read returns at most limit frames, and no more than the time since the
// opening allows: QEMU asks as often as it likes and would run ahead of the
// clock (43 kHz were measured without this).
func (m *Microphone) read(limit int, now time.Time) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.open {
		return nil
	}
	n := max(0, min(limit, frames(now.Sub(m.opened), m.rate)-m.given))
	m.given += n
	out := make([]byte, n*bytesPerFrame)
	played := min(n, len(m.queue))
	for i, sample := range m.queue[:played] {
		// Left channel only: QEMU adds the channels when the guest records mono.
		binary.LittleEndian.PutUint16(out[i*bytesPerFrame:], uint16(sample))
	}
	m.queue = m.queue[played:]
	if played > 0 && len(m.queue) == 0 {
		close(m.drained)
	}
	return out
}
