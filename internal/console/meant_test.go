package console_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/console"
)

// The question says which dead letters a filter means, and buttons for all are where the list shows those that they mean.
func TestTheFilterIsShown(t *testing.T) {
	b := open(t, "")
	_, _, text := b.post("/deadletters", "_form", b.secret("/lag"), "do", "discard", "all", "1", "reason", "schema", "detail", "is too long")
	if !strings.Contains(text, "<dd>is too long</dd>") {
		t.Errorf("the question does not show its filter:\n%s", text)
	}
	if _, _, text := b.get("/deadletters?state=discarded"); strings.Contains(text, "Discard all") {
		t.Error("a list of what was discarded offers to discard all that is open")
	}
}

// Nothing asks for a reason that no log keeps.
func TestPublishAsksForNoReason(t *testing.T) {
	b := open(t, "")
	_, _, text := b.post("/messages", "_form", b.secret("/lag"), "do", "publish", "dataset", "users", "key", "1", "op", "delete", "version", "9")
	if !strings.Contains(text, "Publish a new event") || strings.Contains(text, `name="reason"`) {
		t.Errorf("%s", text)
	}
}

// The first step of a job hands on each choice of the address.
func TestAJobKeepsItsErrorNumber(t *testing.T) {
	if _, _, text := open(t, "").get("/jobs/new?dataset=users&action=redrive&errno=1406"); !strings.Contains(text, `name="errno" value="1406"`) {
		t.Errorf("%s", text)
	}
}

// endless is a body without an end.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	if e.read > 50<<20 {
		return 0, io.EOF
	}
	return len(p), nil
}

// A form is bounded, also without a session.
func TestFormsAreBounded(t *testing.T) {
	c, err := console.New(console.Config{API: &fakeAPI{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/preferences", "/sign-out", "/sign-in", "/lag"} {
		body := &endless{}
		r := httptest.NewRequest(http.MethodPost, path, io.MultiReader(strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b\"\r\n\r\n"), body))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		c.ServeHTTP(httptest.NewRecorder(), r)
		if body.read > 3<<20 {
			t.Errorf("%s: %d bytes were read", path, body.read)
		}
	}
}
