package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/freshet/freshet/admin/api"
)

// A body whose readers could see different requests is refused by every route that takes one: members spelt in another
// way, members that occur twice, and members that it is not known.
func TestBodiesAreReadStrictly(t *testing.T) {
	r := newRig(t, nil)
	r.letters(4)
	r.publish(3, 7)
	for path, body := range map[string]string{
		"/v1/deadletters/redrives":        `"dry_run":true,"why":"a test","dataset":"items"`,
		"/v1/deadletters/discards":        `"dry_run":true,"why":"a test","dataset":"items"`,
		"/v1/replays":                     `"dry_run":true,"why":"a test","dataset":"items"`,
		"/v1/records/items/k0/replay":     `"dry_run":true,"why":"a test"`,
		"/v1/records/items/k0/invalidate": `"reason":"a test"`,
		"/v1/invalidations":               `"names":["item:k0"],"reason":"a test"`,
		"/v1/datasets/items/pause":        `"why":"a test"`,
	} {
		name := body[1:strings.Index(body, `":`)]
		for what, bad := range map[string]string{
			"in capitals":      "{" + body + `,"` + strings.ToUpper(name) + `":false}`,
			"with a capital":   "{" + body + `,"` + strings.ToUpper(name[:1]) + name[1:] + `":false}`,
			"twice":            "{" + body + `,"` + name + `":false}`,
			"unknown":          "{" + body + `,"dryrun":false}`,
			"behind the body":  "{" + body + `} {"` + name + `":false}`,
			"alone, capitals":  `{"` + strings.ToUpper(name) + `":` + body[len(name)+3:] + "}",
			"escaped the same": "{" + body + `,"\u00` + fmt.Sprintf("%02x", name[0]) + name[1:] + `":false}`,
		} {
			if a := r.do("admin", "POST", path, bad); a.status != http.StatusBadRequest && a.status != http.StatusUnprocessableEntity {
				t.Errorf("%s, a member %s: status %d\n%s", path, what, a.status, a.body)
			}
		}
	}
	if got := r.states(); got["open"] != 4 || len(got) != 1 {
		t.Errorf("letters are %v", got)
	}
	if n := r.count("SELECT COUNT(*) FROM freshet_replay"); n != 0 {
		t.Errorf("%d replays were started", n)
	}
	if n := len(r.rows()); n != 0 {
		t.Errorf("%d rows were written", n)
	}
	event := cloudEvent("a", 1)
	for _, bad := range []string{
		strings.Replace(event, `"partitionkey":"a"`, `"partitionkey":"a","partitionkey":"b"`, 1), strings.Replace(event, `{"specversion"`, `{"SUBJECT":"items/b","subject":"items/b","specversion"`, 1),
	} {
		r.want(422, "publisher", "POST", "/v1/events", bad, "Content-Type", "application/cloudevents+json")
		r.want(422, "publisher", "POST", "/v1/events", "["+bad+"]", "Content-Type", "application/cloudevents-batch+json")
	}
	r.want(422, "viewer", "GET", "/v1/deadletters?dataset=items&dataset=others", nil)
}

// A forgotten filter must not mean every letter.
func TestChangesOfLettersWantAChoice(t *testing.T) {
	r := newRig(t, nil)
	r.letters(3)
	for _, path := range []string{"/v1/deadletters/discards", "/v1/deadletters/redrives"} {
		for _, dry := range []bool{true, false} {
			a := r.want(422, "operator", "POST", path, map[string]any{"why": "a test", "dry_run": dry})
			if !strings.Contains(string(a.body), "all: true") {
				t.Errorf("%s", a.body)
			}
			r.want(422, "operator", "POST", path, map[string]any{"why": "a test", "dry_run": dry, "all": false, "ids": []string{}, "limit": 10})
		}
	}
	if got := r.states(); got["open"] != 3 {
		t.Fatalf("letters are %v", got)
	}
	var gone api.Discard
	r.want(200, "operator", "POST", "/v1/deadletters/discards", map[string]any{"why": "a test", "dry_run": false, "all": true}).into(t, &gone)
	if gone.Letters != 3 {
		t.Errorf("%d dead letters discarded, want 3", gone.Letters)
	}
}

// A path that is not clean is another record's, or none: it must not be redirected to an encoded form of itself.
func TestUncleanPaths(t *testing.T) {
	r := newRig(t, nil)
	for _, path := range []string{
		"//v1/records/items/a%2Fb/invalidate", "/v1//records/items/a%2Fb/invalidate", "/v1/records/items/./invalidate", "/v1/records/../records/items/a/invalidate", "//",
	} {
		a := r.do("operator", "POST", path, `{"reason":"a test"}`)
		if a.status != http.StatusNotFound || a.header.Get("Location") != "" {
			t.Errorf("POST %s: status %d, Location %q", path, a.status, a.header.Get("Location"))
		}
	}
	if a := r.do("viewer", "GET", "//v1/lag", nil); a.status != http.StatusNotFound {
		t.Errorf("GET //v1/lag: status %d", a.status)
	}
	// What is encoded belongs to the record's key.
	r.want(202, "operator", "POST", "/v1/records/items/a%2F%2Fb/invalidate", `{"reason":"a test"}`)
	r.want(202, "operator", "POST", "/v1/records/items/%2E%2E/invalidate", `{"reason":"a test"}`)
}
