package sip

import (
	"bytes"
	"fmt"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

const maxHeaders = 96

// refusal is why a message does not reach the call logic, as a SIP status.
type refusal struct {
	code   int
	reason string
}

func bad(format string, args ...any) *refusal {
	return &refusal{400, "Bad Request - " + fmt.Sprintf(format, args...)}
}

// field is one header field, unfolded, its name in long canonical form.
type field struct{ name, value string }

// message is a head taken apart; either method or status is set.
type message struct {
	method, uri, version string
	status               string
	fields               []field
}

// validate checks a framed message as RFC 3261 demands and returns it in
// canonical form: unfolded lines, long names. sipgo's parser is laxer than
// RFC 4475 wants, and of doubled headers it takes the last where proxies
// take the first.
func validate(head, body []byte) ([]byte, *refusal) {
	m, err := split(head)
	if err != nil {
		return nil, err
	}
	for _, check := range []func(*message) *refusal{checkStart, checkFields, checkCSeq, checkValues} {
		if err := check(m); err != nil {
			return nil, err
		}
	}
	out := m.bytes(body)
	if err := parses(out); err != nil {
		return nil, bad("%v", err)
	}
	return out, nil
}

// parses runs sipgo's parser where a panic costs one message and not the
// process.
func parses(raw []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("unparsable message")
		}
	}()
	msg, err := sip.ParseMessage(raw)
	if err != nil {
		return fmt.Errorf("unparsable message")
	}
	if req, ok := msg.(*sip.Request); ok && (req.From() == nil || req.To() == nil || req.Via() == nil || req.CSeq() == nil || req.CallID() == nil) {
		return fmt.Errorf("mandatory header not understood")
	}
	return nil
}

// split takes the head apart. Lines end in CR LF, and neither stands alone.
func split(head []byte) (*message, *refusal) {
	text, ok := strings.CutSuffix(string(head), "\r\n")
	if !ok {
		return nil, bad("line break")
	}
	lines := strings.Split(text, "\r\n")
	for _, l := range lines {
		if strings.ContainsFunc(l, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, bad("control character")
		}
	}
	m := new(message)
	m.start(lines[0])
	for _, l := range lines[1:] {
		if l == "" {
			return nil, bad("header line")
		}
		if n := len(m.fields); (l[0] == ' ' || l[0] == '\t') && n > 0 { // RFC 3261 7.3.1 folding
			m.fields[n-1].value = strings.TrimSpace(m.fields[n-1].value + " " + strings.TrimSpace(l))
			continue
		}
		name, value, ok := strings.Cut(l, ":")
		name = strings.TrimRight(name, " \t")
		if !ok || !token(name) {
			return nil, bad("header line")
		}
		m.fields = append(m.fields, field{longName(name), strings.TrimSpace(value)})
	}
	if len(m.fields) > maxHeaders {
		return nil, bad("more than %d headers", maxHeaders)
	}
	return m, nil
}

func (m *message) start(line string) {
	parts := strings.SplitN(line, " ", 3)
	for len(parts) < 3 {
		parts = append(parts, "")
	}
	if strings.HasPrefix(strings.ToUpper(parts[0]), "SIP/") {
		m.version, m.status, m.uri = parts[0], parts[1], parts[2] // uri holds the reason phrase
		return
	}
	m.method, m.uri, m.version = parts[0], parts[1], parts[2]
}

func (m *message) bytes(body []byte) []byte {
	var b bytes.Buffer
	if m.method != "" {
		fmt.Fprintf(&b, "%s %s SIP/2.0\r\n", m.method, m.uri)
	} else {
		fmt.Fprintf(&b, "SIP/2.0 %s %s\r\n", m.status, m.uri)
	}
	for _, f := range m.fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.name, f.value)
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

func (m *message) values(name string) []string {
	var out []string
	for _, f := range m.fields {
		if f.name == name {
			out = append(out, f.value)
		}
	}
	return out
}

func checkStart(m *message) *refusal {
	if !strings.EqualFold(m.version, "SIP/2.0") {
		if strings.HasPrefix(strings.ToUpper(m.version), "SIP/") && !strings.Contains(m.version, " ") {
			return &refusal{505, "Version Not Supported"}
		}
		return bad("start line")
	}
	if m.status != "" {
		n, err := strconv.Atoi(m.status)
		if err != nil || n < 100 || n > 699 || len(m.status) != 3 {
			return bad("status code")
		}
		return nil
	}
	if !token(m.method) || len(m.method) > 64 || m.uri == "" || strings.ContainsAny(m.uri, "<>\"\t") {
		return bad("start line")
	}
	scheme, rest, _ := strings.Cut(m.uri, ":")
	if !slices.Contains([]string{"sip", "sips", "tel"}, strings.ToLower(scheme)) {
		return &refusal{416, "Unsupported URI Scheme"}
	}
	if strings.Contains(rest, "?") || strings.Contains(strings.ToLower(rest), "%00") { // RFC 3261 19.1.1: no headers in a Request-URI
		return bad("request URI")
	}
	return nil
}

// checkFields wants each mandatory field and no singleton twice.
func checkFields(m *message) *refusal {
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		if len(m.values(name)) == 0 || m.values(name)[0] == "" {
			return bad("missing %s", name)
		}
	}
	for _, name := range []string{"From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Content-Type", "Expires", "Date"} {
		if len(m.values(name)) > 1 {
			return bad("doubled %s", name)
		}
	}
	if m.method == "INVITE" && len(m.values("Contact")) != 1 {
		return bad("INVITE needs one Contact")
	}
	return nil
}

func checkCSeq(m *message) *refusal {
	parts := strings.Fields(m.values("CSeq")[0])
	if len(parts) != 2 || !token(parts[1]) {
		return bad("CSeq")
	}
	if n, err := strconv.ParseUint(parts[0], 10, 32); err != nil || n >= 1<<31 { // RFC 3261 8.1.1.5
		return bad("CSeq number")
	}
	if m.method != "" && parts[1] != m.method {
		return bad("CSeq method does not match")
	}
	return nil
}

func checkValues(m *message) *refusal {
	for _, f := range m.fields {
		switch f.name {
		case "From", "To", "Contact", "Route", "Record-Route":
			if strings.Contains(strings.ToLower(f.value), "%00") || !balanced(f.value) {
				return bad("%s", f.name)
			}
		case "Max-Forwards":
			if _, err := strconv.ParseUint(f.value, 10, 8); err != nil {
				return bad("Max-Forwards")
			}
		case "Content-Type":
			if !strings.Contains(f.value, "/") {
				return bad("Content-Type")
			}
		case "Via":
			if !strings.EqualFold(strings.ReplaceAll(f.value, " ", "")[:min(8, len(strings.ReplaceAll(f.value, " ", "")))], "SIP/2.0/") {
				return bad("Via")
			}
		}
	}
	return nil
}

// balanced checks quotes and angle brackets.
func balanced(s string) bool {
	quoted, open := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			if open {
				return false
			}
			open = true
		case c == '>':
			if !open {
				return false
			}
			open = false
		}
	}
	return !quoted && !open
}

func token(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~") == ""
}

// longName undoes the compact forms (RFC 3261 section 20).
func longName(name string) string {
	switch strings.ToLower(name) {
	case "v":
		return "Via"
	case "f":
		return "From"
	case "t":
		return "To"
	case "i", "call-id":
		return "Call-ID"
	case "m":
		return "Contact"
	case "l":
		return "Content-Length"
	case "c":
		return "Content-Type"
	case "e":
		return "Content-Encoding"
	case "s":
		return "Subject"
	case "k":
		return "Supported"
	case "cseq":
		return "CSeq"
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

// refusalResponse answers a request that was refused, nil when it must not
// or cannot be answered: ACK, responses, and heads that cannot be split.
func refusalResponse(head []byte, r refusal) []byte {
	m, bad := split(head)
	if bad != nil || m.method == "" || m.method == "ACK" || checkFields(m) != nil && len(m.values("Via")) == 0 {
		return nil
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "SIP/2.0 %d %s\r\n", r.code, r.reason)
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		for i, v := range m.values(name) {
			if name != "Via" && i > 0 {
				break
			}
			if name == "To" && !strings.Contains(strings.ToLower(v), "tag=") {
				v += ";tag=" + sip.GenerateTagN(12)
			}
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	return b.Bytes()
}
