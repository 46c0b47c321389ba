package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.bug.st/serial"
)

// Address is the phone's address on the segment, from its lease.
func (p *Phone) Address(ctx context.Context) (string, error) {
	match, err := p.Expect(ctx, `ringfence net: lease [^\r\n]*address=([0-9.]+)/`)
	if err != nil {
		return "", err
	}
	return match[1], nil
}

// ScanTCP looks for open TCP ports on all 65,535, as an attacker on the
// segment would. A filtered port does not answer, so each is tried twice and
// then left.
func ScanTCP(ctx context.Context, address string) ([]int, error) {
	out, err := Run(ctx, "nmap", "-n", "-Pn", "-sS", "-p1-65535", "--max-retries", "1", "--min-rate", "4000",
		"--max-rtt-timeout", "300ms", "-oG", "-", address)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(string(out), "# Nmap done") {
		return nil, fmt.Errorf("nmap did not finish: %s", lastLines(out, 5))
	}
	var open []int
	for _, m := range regexp.MustCompile(`(\d+)/open/`).FindAllStringSubmatch(string(out), -1) {
		port, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, err
		}
		open = append(open, port)
	}
	return open, nil
}

// Lab gives a command to the lab role of a test image, over the factory line,
// and decodes its result. Product images have no such role.
func (p *Phone) Lab(ctx context.Context, command string, result any) error {
	if _, err := p.Expect(ctx, `ringfence lab: ready`); err != nil {
		return err
	}
	line, err := p.labLine()
	if err != nil {
		return fmt.Errorf("phone %s: lab line: %w", p.Name, err)
	}
	defer line.Close()
	if _, err := line.Write([]byte(command + "\n")); err != nil {
		return fmt.Errorf("phone %s: lab %s: %w", p.Name, command, err)
	}
	answer, err := bufio.NewReader(line).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("phone %s: lab %s: no answer: %w", p.Name, command, err)
	}
	var a struct {
		OK     bool            `json:"ok"`
		Error  string          `json:"error"`
		Result json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return fmt.Errorf("phone %s: lab %s: %w: %s", p.Name, command, err, answer)
	}
	if !a.OK {
		return fmt.Errorf("phone %s: lab %s: %w", p.Name, command, errors.New(a.Error))
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(a.Result, result)
}

// labAnswer bounds one answer of the lab role.
const labAnswer = 30 * time.Second

func (p *Phone) labLine() (serial.Port, error) {
	path, err := p.Machine.FactoryLine()
	if err != nil {
		return nil, err
	}
	line, err := serial.Open(path, &serial.Mode{BaudRate: 115200})
	if err != nil {
		return nil, err
	}
	return line, errors.Join(line.SetReadTimeout(labAnswer), line.ResetInputBuffer())
}
