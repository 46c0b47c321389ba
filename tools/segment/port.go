package segment

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// Port is where one device is plugged in. It is safe for concurrent use.
type Port struct {
	name    string
	segment *Segment
	device  io.ReadWriteCloser
	framed  bool // QEMU's length before each frame; a TAP has none
	once    sync.Once

	// Guarded by the segment's mutex.
	rule  Rule
	stats Stats
	queue chan []byte
}

// Name is the name the port was attached under; names need not be unique.
func (p *Port) Name() string { return p.name }

// Stats returns the counters so far.
func (p *Port) Stats() Stats {
	p.segment.mu.Lock()
	defer p.segment.mu.Unlock()
	return p.stats
}

// Close unplugs the device.
func (p *Port) Close() {
	p.once.Do(func() {
		p.segment.remove(p)
		_ = p.device.Close() // the device's loss is the purpose
	})
}

// enqueue hands a frame to transmit. The segment is locked.
func (p *Port) enqueue(frame []byte) {
	if _, ok := p.segment.ports[p]; !ok {
		return
	}
	select {
	case p.queue <- frame:
		p.stats.Out++
	default:
		p.stats.Dropped++
	}
}

func (p *Port) receive() {
	defer p.Close()
	reader := bufio.NewReaderSize(p.device, maxFrame)
	for {
		frame, err := p.readFrame(reader)
		if err != nil {
			return
		}
		p.segment.forward(p, frame)
	}
}

func (p *Port) readFrame(reader *bufio.Reader) ([]byte, error) {
	if !p.framed {
		// A TAP gives one frame per read, so the buffer must not join two.
		frame := make([]byte, 2048)
		n, err := p.device.Read(frame)
		return frame[:n], err
	}
	var length [4]byte
	if _, err := io.ReadFull(reader, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return nil, fmt.Errorf("port %s: frame of %d bytes", p.name, n)
	}
	frame := make([]byte, n)
	_, err := io.ReadFull(reader, frame)
	return frame, err
}

func (p *Port) transmit() {
	defer p.Close()
	for frame := range p.queue {
		out := frame
		if p.framed {
			out = append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(frame)), uint32(len(frame))), frame...)
		}
		if _, err := p.device.Write(out); err != nil && p.framed {
			return // a TAP refuses frames while it is down, and takes them again later
		}
	}
}
