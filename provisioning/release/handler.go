package release

import (
	"fmt"
	"net/http"
	"os"
	"path"
	"regexp"
	"strings"

	wire "ringfence/provisioning/wire/release"
)

// servedMetadata are the names of metadata files that clients may ask for.
var servedMetadata = regexp.MustCompile(`^([1-9][0-9]*\.[a-z0-9.-]+|timestamp)\.json$`)

// Handler serves the repository in dir under the paths of wire/release:
// metadata, targets and proofs, with ranges, and nothing else of the folder.
// Who may ask is decided before it. Close the handler's folder with the
// returned function.
func Handler(dir string) (http.Handler, func() error, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open update repository: %w", err)
	}
	mux := http.NewServeMux()
	serve := func(prefix, folder string, allowed func(string) bool) {
		mux.HandleFunc("GET "+prefix, func(w http.ResponseWriter, r *http.Request) {
			name := strings.TrimPrefix(r.URL.Path, prefix)
			if !allowed(name) {
				http.NotFound(w, r)
				return
			}
			serveFile(w, r, root, folder+"/"+name)
		})
	}
	serve(wire.PathMetadata, metadataDir, servedMetadata.MatchString)
	serve(wire.PathTargets, targetsDir, plainPath)
	serve(wire.PathProofs, proofsDir, plainPath)
	return mux, root.Close, nil
}

// plainPath refuses everything that is not a clean path of visible files.
func plainPath(name string) bool {
	return name != "" && path.Clean("/"+name) == "/"+name && !strings.Contains("/"+name, "/.")
}

func serveFile(w http.ResponseWriter, r *http.Request, root *os.Root, name string) {
	f, err := root.Open(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	if path.Base(name) == "timestamp.json" {
		h.Set("Cache-Control", "no-cache")
	}
	http.ServeContent(w, r, "", info.ModTime(), f)
}
