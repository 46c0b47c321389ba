package segment

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
)

// pcap file header values (draft-ietf-opsawg-pcap): nanosecond time stamps,
// version 2.4, Ethernet.
const (
	pcapMagic    = 0xa1b23c4d
	pcapEthernet = 1
)

// capture is an open pcap file.
type capture struct {
	file   *os.File
	writer *bufio.Writer
	err    error // the first one
}

// StartCapture writes every frame that enters the segment, before any loss, to
// a new pcap file. There is one capture at a time.
func (s *Segment) StartCapture(path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.capture != nil {
		return errors.New("start capture: one is running")
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("start capture: %w", err)
	}
	header := binary.LittleEndian.AppendUint32(nil, pcapMagic)
	header = binary.LittleEndian.AppendUint16(header, 2)
	header = binary.LittleEndian.AppendUint16(header, 4)
	header = append(header, make([]byte, 8)...) // time zone, accuracy: always 0
	header = binary.LittleEndian.AppendUint32(header, maxFrame)
	header = binary.LittleEndian.AppendUint32(header, pcapEthernet)
	if _, err := file.Write(header); err != nil {
		return errors.Join(fmt.Errorf("start capture: %w", err), file.Close())
	}
	s.capture = &capture{file: file, writer: bufio.NewWriter(file)}
	return nil
}

func (c *capture) write(frame []byte, now time.Time) {
	record := make([]byte, 0, 16)
	for _, v := range []uint32{uint32(now.Unix()), uint32(now.Nanosecond()), uint32(len(frame)), uint32(len(frame))} {
		record = binary.LittleEndian.AppendUint32(record, v)
	}
	_, err1 := c.writer.Write(record)
	_, err2 := c.writer.Write(frame)
	if c.err == nil {
		c.err = errors.Join(err1, err2)
	}
}

// FlushCapture makes everything captured so far readable in the file.
func (s *Segment) FlushCapture() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.capture == nil {
		return nil
	}
	if err := errors.Join(s.capture.err, s.capture.writer.Flush()); err != nil {
		return fmt.Errorf("flush capture: %w", err)
	}
	return nil
}

// StopCapture ends the capture, if there is one, and reports any loss in it.
func (s *Segment) StopCapture() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.capture == nil {
		return nil
	}
	c := s.capture
	s.capture = nil
	if err := errors.Join(c.err, c.writer.Flush(), c.file.Close()); err != nil {
		return fmt.Errorf("stop capture: %w", err)
	}
	return nil
}
