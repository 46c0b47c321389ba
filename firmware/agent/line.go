package agent

import (
	"io"
	"sync"
)

// line is the factory line: closed once by whoever is first, and it remembers
// whether reading ended, which tells a dead line from a damaged one.
type line struct {
	io.ReadWriteCloser
	once  sync.Once
	ended error // of the last Read; only the reading goroutine looks at it
}

func (l *line) Read(p []byte) (int, error) {
	n, err := l.ReadWriteCloser.Read(p)
	l.ended = err
	return n, err
}

func (l *line) shut() {
	l.once.Do(func() { _ = l.ReadWriteCloser.Close() }) // the reader sees the end of it
}
