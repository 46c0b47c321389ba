// Package jitter orders received audio frames, holds them as long as the
// network's jitter asks for, and fills gaps. It has no goroutine, no clock
// (time is an argument where it matters) and no codec. Frames are placed by
// their RTP timestamp, so packets of several frames and pauses need no special
// case; a jump of the timestamp starts over.
//
// The delay grows by itself: when the buffer ran dry and the missing frame
// arrives late after all, it is played and everything behind it is one frame
// later. It shrinks only while [Buffer.Surplus] says that a spare frame was not
// needed for four seconds; the caller drops one where it is not heard.
package jitter

import (
	"errors"
	"fmt"
)

// ErrConfig means that a field of Config is out of range.
var ErrConfig = errors.New("bad jitter buffer parameters")

const (
	slots      = 64  // frames that can wait: 1.28 s
	maxPacket  = 6   // frames in one packet
	window     = 200 // pops over which the lowest level is observed: 4 s
	dryLimit   = 25  // empty pops after which the stream has paused: 0.5 s
	maxInitial = slots / 4
)

// Config has no useful zero value but Initial.
type Config struct {
	FrameTicks uint32 // RTP clock ticks of one frame
	FrameBytes int    // encoded size of one frame, 1..1024
	Initial    int    // frames to wait for before the first is played, 1..16; 0 = 3
}

// Stats counts frames since New.
type Stats struct {
	Played   uint64
	Missing  uint64 // asked for and not there: the caller concealed
	Late     uint64 // came after their turn
	Repeated uint64 // were there already
	Refused  uint64 // packets of an odd size
	Restarts uint64 // timestamp jumps and overflows
}

// Kind says what Pop returned.
type Kind int

// Kinds of a popped frame.
const (
	Idle  Kind = iota // nothing is playing: silence
	Frame             // the bytes of one frame
	Lost              // conceal one frame
)

// Buffer is a jitter buffer of one stream. Make it with [New]; it is used by
// one goroutine.
type Buffer struct {
	cfg     Config
	data    []byte // slots * FrameBytes
	full    [slots]bool
	started bool
	refTS   uint32 // timestamp of frame number ref
	ref     int64
	next    int64 // number of the next frame to play
	top     int64 // highest number that arrived
	playing bool
	debt    int64 // frames concealed while the buffer was dry
	low     int64 // lowest level in this window
	pops    int
	surplus bool
	stats   Stats
}

// New makes an empty buffer and all the memory that it will ever use.
func New(cfg Config) (*Buffer, error) {
	if cfg.Initial == 0 {
		cfg.Initial = 3
	}
	if cfg.FrameTicks == 0 || cfg.FrameTicks > 1<<16 || cfg.FrameBytes < 1 || cfg.FrameBytes > 1024 || cfg.Initial < 1 || cfg.Initial > maxInitial {
		return nil, fmt.Errorf("%+v: %w", cfg, ErrConfig)
	}
	return &Buffer{cfg: cfg, data: make([]byte, slots*cfg.FrameBytes), low: slots}, nil
}

// Push stores the frames of one packet; payload is copied. What does not fit
// is counted and dropped.
func (b *Buffer) Push(timestamp uint32, payload []byte) {
	n := len(payload) / b.cfg.FrameBytes
	if n == 0 || n > maxPacket || len(payload)%b.cfg.FrameBytes != 0 {
		b.stats.Refused++
		return
	}
	first := b.number(timestamp)
	for i := range n {
		b.put(first+int64(i), payload[i*b.cfg.FrameBytes:(i+1)*b.cfg.FrameBytes])
	}
}

// number gives a timestamp its frame number and starts over after a jump.
func (b *Buffer) number(timestamp uint32) int64 {
	diff := int64(int32(timestamp - b.refTS))
	ticks := int64(b.cfg.FrameTicks)
	n := b.ref + diff/ticks
	if !b.started || diff%ticks != 0 || n < b.next-2*slots || n >= b.next+slots-maxPacket {
		b.restart(n)
	}
	b.refTS, b.ref = timestamp, n
	return n
}

func (b *Buffer) restart(n int64) {
	if b.started {
		b.stats.Restarts++
	}
	b.full = [slots]bool{}
	b.started, b.playing = true, false
	b.next, b.top = n, n-1
	b.debt = 0
	b.observe()
}

// observe begins a new window.
func (b *Buffer) observe() { b.low, b.pops, b.surplus = slots, 0, false }

func (b *Buffer) put(n int64, frame []byte) {
	if !b.playing && b.level() <= 0 {
		b.next, b.top = n, n-1 // after a pause
	}
	if n < b.next {
		if b.playing {
			b.stats.Late++
			return
		}
		if b.top-n >= slots {
			return
		}
		b.next = n // reordered before the start
	}
	i := int(n & (slots - 1))
	if b.full[i] {
		b.stats.Repeated++
		return
	}
	copy(b.data[i*b.cfg.FrameBytes:], frame)
	b.full[i] = true
	b.top = max(b.top, n)
}

// level is the number of frames from the next to the newest.
func (b *Buffer) level() int64 { return b.top - b.next + 1 }

// Pop takes the frame whose turn it is, once per frame duration. The slice is
// valid until the next Push.
func (b *Buffer) Pop() ([]byte, Kind) {
	if !b.started || !b.playing && b.level() < int64(b.cfg.Initial) {
		return nil, Idle
	}
	b.playing = true
	b.watch()
	b.settle()
	if b.level() <= 0 {
		return nil, b.dry()
	}
	i := int(b.next & (slots - 1))
	b.next++
	if !b.full[i] {
		b.stats.Missing++
		return nil, Lost
	}
	b.full[i] = false
	b.debt = 0
	b.stats.Played++
	return b.data[i*b.cfg.FrameBytes : (i+1)*b.cfg.FrameBytes], Frame
}

// settle skips gaps that were concealed already while the buffer was dry.
func (b *Buffer) settle() {
	for b.debt > 0 && b.level() > 1 && !b.full[b.next&(slots-1)] {
		b.next++
		b.debt--
	}
}

// dry conceals without advancing: the frame may still come.
func (b *Buffer) dry() Kind {
	b.observe()
	if b.debt++; b.debt > dryLimit {
		b.playing, b.debt = false, 0
		return Idle
	}
	b.stats.Missing++
	return Lost
}

// watch observes how low the level gets before a frame is taken.
func (b *Buffer) watch() {
	b.low = min(b.low, b.level())
	if b.pops++; b.pops >= window {
		low := b.low
		b.observe()
		b.surplus = low > 2 // the frame in hand and one spare
	}
}

// Surplus says that the delay is a frame longer than needed: pop twice where it
// is not heard (a quiet frame) and call Shrunk.
func (b *Buffer) Surplus() bool { return b.surplus && b.level() > 2 }

// Shrunk ends the surplus until another window has been observed.
func (b *Buffer) Shrunk() { b.observe() }

// Depth is the number of frames waiting.
func (b *Buffer) Depth() int { return int(max(b.level(), 0)) }

// Stats counts since New.
func (b *Buffer) Stats() Stats { return b.stats }
