package admin_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
)

// Of 10,000 dead letters a page is read fast, and a group, a filter and a list of ids are chosen, dry, by what the groups and pages say.
func TestPagesOfManyLetters(t *testing.T) {
	r := newRig(t, nil)
	r.letters(10_000)
	timed := func(method, path string, body, into any) {
		t.Helper()
		best := time.Hour // this machine is shared
		for range 3 {
			began := time.Now()
			r.want(http.StatusOK, "operator", method, path, body).into(t, into)
			best = min(best, time.Since(began))
		}
		t.Logf("%s %s: %v", method, path, best)
		if best > 500*time.Millisecond {
			t.Errorf("%s %s took %v", method, path, best)
		}
	}
	var page struct {
		Items []api.Letter
		Next  string
	}
	timed("GET", "/v1/deadletters?state=open&limit=100", nil, &page)
	timed("GET", "/v1/deadletters?state=open&limit=100&after="+url.QueryEscape(page.Next), nil, &page)
	var groups struct{ Items []api.LetterGroup }
	timed("GET", "/v1/deadletters/groups", nil, &groups)
	if len(groups.Items) != 1 || groups.Items[0].Count != 10_000 {
		t.Fatalf("groups %+v", groups.Items)
	}
	g := groups.Items[0]
	group := map[string]any{"dataset": g.Dataset, "reason": g.Reason, "detail": g.Detail, "why": "a test"}
	var d api.Discard
	timed("POST", "/v1/deadletters/discards", group, &d)
	if !d.DryRun || d.Letters != 1000 || d.Left != 9000 {
		t.Errorf("a group: %+v", d)
	}
	group["detail"] = "another"
	timed("POST", "/v1/deadletters/discards", group, &d)
	if d.Letters != 0 {
		t.Errorf("another group: %+v", d)
	}
	var ids []string
	for _, l := range page.Items {
		ids = append(ids, l.ID)
	}
	timed("POST", "/v1/deadletters/discards", map[string]any{"ids": ids, "why": "a test"}, &d)
	if d.Letters != int64(len(ids)) || len(ids) != 100 {
		t.Errorf("%d ids: %+v", len(ids), d)
	}
	var o api.Overview
	timed("GET", "/v1/overview", nil, &o)
	if *o.Counts.Letters != 10_000 {
		t.Error(fmt.Sprint(*o.Counts.Letters))
	}
}
