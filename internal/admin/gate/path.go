package gate

import (
	"net/http"
	"path"
	"strings"
)

// unclean reports whether the mux would redirect a path to another one: with // or a dot segment it is another route, or
// another record, than the caller wrote, and the redirection encodes it once more.
func unclean(r *http.Request) bool {
	p := r.URL.EscapedPath()
	clean := path.Clean("/" + strings.TrimPrefix(p, "/"))
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return p != "" && p != clean
}

// repeated returns a query parameter that is there twice, which would leave it open which one counts.
func repeated(r *http.Request) string {
	for name, values := range r.URL.Query() {
		if len(values) > 1 {
			return name
		}
	}
	return ""
}
