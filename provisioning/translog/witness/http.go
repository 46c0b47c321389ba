package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Bounds of a request (C2SP tlog-witness: at most 63 proof lines).
const (
	maxRequest = 64 << 10 // bytes
	maxProof   = 63       // lines
)

// Request is a decoded add-checkpoint request. Nothing in it is verified.
type Request struct {
	Old        int64          // size of the head that the client believes cosigned
	Proof      tlog.TreeProof // from Old to the checkpoint
	Checkpoint []byte         // signed note
}

// ParseRequest decodes "old <size>", proof lines, an empty line and the
// checkpoint.
func ParseRequest(raw []byte) (r Request, err error) {
	head, checkpoint, ok := strings.Cut(string(raw), "\n\n")
	lines := strings.Split(head, "\n")
	digits, old := strings.CutPrefix(lines[0], "old ")
	if !ok || !old || len(lines) > 1+maxProof {
		return r, fmt.Errorf("%w: want an old size, at most %d proof lines, an empty line and a checkpoint", ErrMalformed, maxProof)
	}
	r.Old, err = strconv.ParseInt(digits, 10, 64)
	if err != nil || r.Old < 0 || strconv.FormatInt(r.Old, 10) != digits {
		return r, fmt.Errorf("%w: old size %.40q", ErrMalformed, digits)
	}
	for _, line := range lines[1:] {
		h, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(h) != tlog.HashSize {
			return r, fmt.Errorf("%w: proof line %.60q", ErrMalformed, line)
		}
		r.Proof = append(r.Proof, tlog.Hash(h))
	}
	r.Checkpoint = []byte(checkpoint)
	if r.text() == nil || r.origin() == "" {
		return r, fmt.Errorf("%w: checkpoint is no signed note", ErrMalformed)
	}
	return r, nil
}

// origin is the first line of the checkpoint.
func (r Request) origin() string {
	line, _, _ := strings.Cut(string(r.Checkpoint), "\n")
	return line
}

// text is the checkpoint without its signatures, nil when it has none (C2SP
// signed-note: an empty line parts the two).
func (r Request) text() []byte {
	i := bytes.LastIndex(r.Checkpoint, []byte("\n\n"))
	if i < 0 {
		return nil
	}
	return r.Checkpoint[:i+1]
}

// Handler serves POST /add-checkpoint.
func (w *Witness) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add-checkpoint", w.serve)
	return mux
}

func (w *Witness) serve(out http.ResponseWriter, in *http.Request) {
	raw, err := io.ReadAll(http.MaxBytesReader(out, in.Body, maxRequest))
	if err != nil {
		http.Error(out, fmt.Sprintf("request of more than %d bytes, or it broke off", maxRequest), http.StatusBadRequest)
		return
	}
	r, err := ParseRequest(raw)
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	line, size, err := w.AddCheckpoint(r)
	switch {
	case err == nil:
		w.c.Log.Info("cosigned", "log", r.origin(), "size", size)
		out.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(out, line) // a client that left asks again
	case errors.Is(err, ErrOldSize):
		out.Header().Set("Content-Type", "text/x.tlog.size")
		out.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprintf(out, "%d\n", size) // as above
	default:
		w.c.Log.Warn("refused", "log", r.origin(), "err", err)
		http.Error(out, err.Error(), status(err))
	}
}

func status(err error) int {
	switch {
	case errors.Is(err, ErrMalformed):
		return http.StatusBadRequest
	case errors.Is(err, ErrSignature):
		return http.StatusForbidden
	case errors.Is(err, ErrUnknownLog):
		return http.StatusNotFound
	case errors.Is(err, ErrFork):
		return http.StatusConflict
	case errors.Is(err, ErrProof):
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}
