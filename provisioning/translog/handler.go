package translog

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
)

// Handler serves the log to everyone, read only: /checkpoint and /tile/...
// (C2SP tlog-tiles). It needs no open Log, so that a mirror can serve a copy.
// The caller closes the root after the last request.
func Handler(root *os.Root) http.Handler {
	serve := func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if !public(name) {
			http.NotFound(w, r)
			return
		}
		f, err := root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			http.NotFound(w, r)
			return
		}
		if err != nil {
			http.Error(w, "the log cannot be read", http.StatusInternalServerError)
			return
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil || !info.Mode().IsRegular() {
			http.NotFound(w, r)
			return
		}
		setHeaders(w.Header(), name)
		http.ServeContent(w, r, "", info.ModTime(), f)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", serve)
	return mux
}

// public reports whether a file of the folder belongs to the log's public
// part: not the storage's own state, locks or files that are being written.
func public(name string) bool {
	if !fs.ValidPath(name) || strings.Contains("/"+name, "/.") {
		return false
	}
	if name == "checkpoint" {
		return true
	}
	rest, tile := strings.CutPrefix(name, "tile/")
	return tile && strings.Trim(strings.TrimPrefix(rest, "entries/"), "0123456789x/p.") == "" && path.Clean(name) == name
}

// setHeaders says what the file is and how long it may be kept: a checkpoint
// changes, a tile never does.
func setHeaders(h http.Header, name string) {
	if name == "checkpoint" {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "no-cache")
		return
	}
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
}
