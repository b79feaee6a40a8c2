package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// client is the admin API as one person may use it.
type client struct {
	api           http.Handler
	authorization string
	host, remote  string // of the person's request
}

// APIError is the API's refusal.
type APIError struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
	} `json:"errors"`
}

// Error returns the detail with what is wrong in each field.
func (p *APIError) Error() string {
	text := p.Detail
	for _, e := range p.Errors {
		text += "; " + e.Location + ": " + e.Message
	}
	return text
}

// get reads an answer into out. Errors are problems.
func (a *client) get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return a.do(ctx, http.MethodGet, path, "", nil, out)
}

// post sends body as JSON and reads the answer into out, unless that is nil.
func (a *client) post(ctx context.Context, path string, body, out any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	return a.do(ctx, http.MethodPost, path, "application/json", text, out)
}

// do makes a request; kind is the body's media type.
func (a *client) do(ctx context.Context, method, path, kind string, body []byte, out any) error {
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, path, content) //nolint:gosec // it never leaves this process
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	r.Host, r.RemoteAddr, r.RequestURI = a.host, a.remote, path
	if body != nil {
		r.Header.Set("Content-Type", kind)
	}
	if a.authorization != "" {
		r.Header.Set("Authorization", a.authorization)
	}
	w := &answer{header: http.Header{}}
	a.api.ServeHTTP(w, r)
	if w.status >= http.StatusBadRequest {
		p := &APIError{}
		if json.Unmarshal(w.body.Bytes(), p) != nil || p.Detail == "" {
			p.Detail = http.StatusText(w.status)
		}
		p.Status = w.status
		return p
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(w.body.Bytes(), out); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	return nil
}

// answer keeps what a handler writes.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is the answer's.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader notes the first status.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write keeps b.
func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// seg escapes one segment of a path.
func seg(s string) string { return url.PathEscape(s) }
