package admin_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/testenv"
)

// Who replaces a token by another one of the same name and role changes neither the size of the file nor, with tools that
// copy times, its time.
func TestTokenFileOfEqualSizeAndTimeIsReread(t *testing.T) {
	r := newRig(t, nil)
	token, line, err := access.NewToken("viewer-1", access.Viewer)
	must(t, err)
	text, err := os.ReadFile(r.file)
	must(t, err)
	before, err := os.Stat(r.file)
	must(t, err)
	lines := strings.Split(string(text), "\n")
	lines[1] = line // the viewer's
	write(t, r.file, strings.Join(lines, "\n"))
	must(t, os.Chtimes(r.file, before.ModTime(), before.ModTime()))
	after, err := os.Stat(r.file)
	must(t, err)
	if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		t.Fatalf("the file shows its change: %d %s, before %d %s", after.Size(), after.ModTime(), before.Size(), before.ModTime())
	}
	testenv.Eventually(t, 5*time.Second, func(context.Context) error {
		if got := r.do(token, "GET", "/v1/datasets", nil).status; got != 200 {
			return statusError(got)
		}
		return nil
	})
	if got := r.do("viewer", "GET", "/v1/datasets", nil).status; got == 200 { // 401, or 429 after so many wrong ones
		t.Errorf("the replaced token: got %d", got)
	}
}

// A stream does not outlive the right to read it.
func TestStreamEndsWithItsToken(t *testing.T) {
	for name, narrowed := range map[string]string{"removed": "", "narrowed": "viewer "} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			ended := make(map[string]<-chan struct{})
			const messages, invalidations = "/v1/messages/follow?dataset=items", "/v1/invalidations"
			for _, s := range [][2]string{{"operator", messages}, {"operator", invalidations}, {"viewer", messages}, {"follower", invalidations}} {
				ended[s[0]+" "+s[1]] = r.open(s[0], s[1])
			}
			text, err := os.ReadFile(r.file)
			must(t, err)
			var kept []string
			for _, line := range strings.Split(string(text), "\n") {
				if rest, operator := strings.CutPrefix(line, "operator "); operator {
					if narrowed == "" {
						continue
					}
					line = narrowed + rest
				}
				kept = append(kept, line)
			}
			write(t, r.file, strings.Join(kept, "\n"))
			for stream, end := range ended {
				if strings.HasPrefix(stream, "operator") {
					select {
					case <-end:
					case <-time.After(10 * time.Second):
						t.Errorf("%s is still open", stream)
					}
				}
			}
			for stream, end := range ended {
				select {
				case <-end:
					if !strings.HasPrefix(stream, "operator") {
						t.Errorf("%s has ended, although its token is unchanged", stream)
					}
				default:
				}
			}
		})
	}
}

// open opens a stream and returns a channel that is closed when it has ended.
func (r *rig) open(role, path string) <-chan struct{} {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", r.http.URL+path, nil)
	must(r.t, err)
	req.Header.Set("Authorization", "Bearer "+r.tokens[role])
	tr := &http.Transport{}
	res, err := tr.RoundTrip(req) //nolint:bodyclose // the reader closes it
	must(r.t, err)
	if res.StatusCode != 200 {
		r.t.Errorf("%s as %s: got %d", path, role, res.StatusCode)
	}
	end := make(chan struct{})
	go func() {
		defer close(end)
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body) // however it ends
	}()
	r.t.Cleanup(func() {
		cancel()
		testenv.Await(r.t, end)
		tr.CloseIdleConnections()
	})
	return end
}

// What is in force after a bad change is the file before it, and readiness says so.
func TestUnusableTokenFileIsReported(t *testing.T) {
	r := newRig(t, nil)
	for _, text := range []string{"", "nonsense\n"} {
		write(t, r.file, text)
		testenv.Eventually(t, 10*time.Second, func(context.Context) error {
			got := r.want(200, "viewer", "GET", "/readyz?role=admin", nil)
			if !strings.Contains(string(got.body), "admin.tokens_file") {
				return errors.New(string(got.body))
			}
			return nil
		})
		if got := r.want(200, "", "GET", "/readyz?role=admin", nil); strings.Contains(string(got.body), "tokens_file") {
			t.Errorf("it is shown without a token: %s", got.body)
		}
	}
}
