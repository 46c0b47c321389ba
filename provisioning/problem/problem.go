// Package problem maps errors to RFC 9457 problem details. It knows no
// endpoint and logs nothing.
package problem

import (
	"encoding/json"
	"errors"
	"net/http"
)

// Problem is one answer of type application/problem+json.
type Problem struct {
	Type   string   `json:"type"` // "urn:ringfence:problem:<name>"
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail,omitempty"`
	Causes []string `json:"causes,omitempty"` // one per failed check
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Title + ": " + p.Detail
}

// New makes a problem; name is the last part of its type.
func New(status int, name, title, detail string) *Problem {
	return &Problem{Type: "urn:ringfence:problem:" + name, Title: title, Status: status, Detail: detail}
}

// Bad is a request that cannot be understood.
func Bad(detail string) *Problem {
	return New(http.StatusBadRequest, "bad-request", "The request cannot be understood", detail)
}

// Forbidden is a request by somebody who may not make it.
func Forbidden(detail string) *Problem {
	return New(http.StatusForbidden, "forbidden", "Not allowed", detail)
}

// NotFound names what is not there.
func NotFound(detail string) *Problem {
	return New(http.StatusNotFound, "not-found", "Not found", detail)
}

// From returns err itself when it is a problem; else it hides it: what went
// wrong inside the service is for its log.
func From(err error) *Problem {
	if p := new(Problem); errors.As(err, &p) {
		return p
	}
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return New(http.StatusRequestEntityTooLarge, "too-large", "The request is larger than its limit", err.Error())
	}
	return New(http.StatusInternalServerError, "internal", "The service could not do this", "see the service's log")
}

// Write answers with err.
func Write(w http.ResponseWriter, err error) {
	p := From(err)
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the peer has gone: nothing more to say
}
