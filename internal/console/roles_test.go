package console_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/admin/access"
)

// A person signs in with a token, and out again. Wrong tokens and roles that look at nothing do not get in.
func TestSignIn(t *testing.T) {
	b := open(t, "", access.Viewer, access.Operator)
	if status, h, _ := b.get("/lag?dataset=users"); status != http.StatusSeeOther || h.Get("Location") != "/sign-in?back=%2Flag%3Fdataset%3Dusers" {
		t.Errorf("without a session: %d %s", status, h.Get("Location"))
	}
	if status, _, text := b.post("/sign-in", "token", "frt_wrong"); status != http.StatusUnauthorized || !strings.Contains(text, "not known") {
		t.Errorf("a wrong token: %d %s", status, text)
	}
	if status, _, _ := b.post("/sign-in", "token", " "+b.tokens["viewer"]+"\n"); status != http.StatusSeeOther {
		t.Errorf("a token with spaces around it, as terminals copy it: %d", status)
	}
	for back, want := range map[string]string{"/lag": "/lag", "//evil.example/": "/", "https://evil.example/": "/", "/\\evil.example": "/", "": "/"} {
		if _, h, _ := b.post("/sign-in", "token", b.tokens["viewer"], "back", back); h.Get("Location") != want {
			t.Errorf("back to %q leads to %q", back, h.Get("Location"))
		}
	}
	_, _, text := b.get("/lag")
	if !strings.Contains(text, "Role: viewer") {
		t.Errorf("the page does not say who looks: %s", text)
	}
	if status, _, _ := b.post("/sign-out"); status != http.StatusForbidden {
		t.Errorf("signed out by a form of another session: %d", status)
	}
	if status, _, _ := b.post("/sign-out", "_form", b.secret("/lag")); status != http.StatusSeeOther {
		t.Errorf("sign out: %d", status)
	}
	if status, _, _ := b.get("/lag"); status != http.StatusSeeOther {
		t.Errorf("after the sign-out: %d", status)
	}
}

// A viewer sees neither content nor what changes something.
func TestViewerSeesNoButtons(t *testing.T) {
	b := open(t, "", access.Viewer).as(access.Viewer)
	for _, path := range pages() {
		status, _, text := b.get(path)
		if strings.HasPrefix(path, "/jobs/new") || path == "/audit" || path == "/doctor" {
			if status != http.StatusForbidden {
				t.Errorf("%s: status %d", path, status)
			}
			continue
		}
		_, main, _ := strings.Cut(text, "<main")
		main, _, _ = strings.Cut(main, "</main>")
		main = strings.ReplaceAll(main, `method="post" action="/dataset"`, "") // which changes nothing
		if strings.Contains(main, `method="post"`) || strings.Contains(text, `href="/audit"`) || strings.Contains(main, "/jobs/new") {
			t.Errorf("%s offers a viewer a change:\n%s", path, main)
		}
	}
}

// forms are all that change something, with the request that each makes of the API in the end.
func forms() map[string][]string {
	return map[string][]string{
		"pause a dataset":     {"/lag", "do", "pause", "dataset", "users"},
		"resume a dataset":    {"/lag", "do", "resume", "dataset", "users"},
		"invalidate a record": {"/record", "do", "invalidate", "dataset", "users", "key", "1"},
		"redrive a group":     {"/deadletters", "do", "redrive", "all", "1", "dataset", "users", "reason", "schema"},
		"redrive one":         {"/deadletters", "do", "redrive", "id", "freshet.users/abc/0@7.0"},
		"discard one":         {"/deadletters", "do", "discard", "id", "freshet.users/abc/0@7.0", "typed", "discard"},
		"start a job":         {"/jobs/new", "do", "start", "dataset", "users", "action", "apply", "typed", "users"},
		"pause a job":         {"/job", "do", "pause", "id", "r1"},
		"limit a job":         {"/job", "do", "limits", "id", "r1", "rate", "5"},
		"flush a node":        {"/nodes", "do", "flush", "id", "n1", "typed", "n1"},
	}
}

// Without the secret of the session, no form does anything. With it and a reason, each makes one request.
func TestForms(t *testing.T) {
	b := open(t, "", access.Operator).as(access.Operator)
	secret := b.secret("/lag")
	for what, form := range forms() {
		before := len(b.posts())
		fields := append(form[1:len(form):len(form)], "sure", "1", "reason", "a good reason", "back", "/lag")
		if status, _, _ := b.post(form[0], fields...); status != http.StatusForbidden || len(b.posts()) != before {
			t.Errorf("%s without the secret: status %d, %d requests", what, status, len(b.posts())-before)
		}
		if status, _, _ := b.post(form[0], append(fields, "_form", "of another session")...); status != http.StatusForbidden || len(b.posts()) != before {
			t.Errorf("%s with another's secret: status %d", what, status)
		}
		status, h, text := b.post(form[0], append(fields, "_form", secret)...)
		if posts := b.posts(); status != http.StatusSeeOther || len(posts) != before+1 {
			t.Errorf("%s: status %d to %s, requests %q\n%s", what, status, h.Get("Location"), posts[before:], text)
		}
	}
}

// What cannot be taken back wants a word, and what changes much shows first what it would do.
func TestQuestions(t *testing.T) {
	b := open(t, "")
	secret := b.secret("/lag")
	for _, what := range []string{"discard one", "start a job", "flush a node"} {
		form := forms()[what]
		before := len(b.posts())
		fields := []string{"_form", secret, "sure", "1", "reason", "a good reason", "typed", "something else"}
		for i := 1; i+1 < len(form); i += 2 {
			if form[i] != "typed" {
				fields = append(fields, form[i], form[i+1])
			}
		}
		status, _, text := b.post(form[0], fields...)
		for _, made := range b.posts()[before:] { // the question is asked again, with what would happen
			if !strings.Contains(made, `"dry_run":true`) {
				t.Errorf("%s with a wrong word made %s", what, made)
			}
		}
		if status != http.StatusUnprocessableEntity || !strings.Contains(text, "Nothing was done") {
			t.Errorf("%s with a wrong word: status %d\n%s", what, status, text)
		}
	}
	status, _, text := b.post("/deadletters", "_form", secret, "do", "discard", "id", "freshet.users/abc/0@7.0")
	if status != http.StatusOK || !strings.Contains(text, `name="id" value="freshet.users/abc/0@7.0"`) || !strings.Contains(text, `name="typed" required`) {
		t.Errorf("the question is %d\n%s", status, text)
	}
	posts := b.posts()
	if last := posts[len(posts)-1]; !strings.Contains(last, `"dry_run":true`) {
		t.Errorf("the question asked for %s", last)
	}
	if status, _, text := b.post("/deadletters", "_form", secret, "do", "redrive", "all", "1", "errno", "x1"); status != http.StatusUnprocessableEntity || !strings.Contains(text, "errno is not a number") {
		t.Errorf("an error number that is none: %d %s", status, text)
	}
	if status, _, text := b.post("/deadletters", "_form", secret, "do", "redrive"); status != http.StatusUnprocessableEntity || !strings.Contains(text, "No dead letter is marked") {
		t.Errorf("without a mark: %d %s", status, text)
	}
}

// A table can be taken away. A spreadsheet does not take a cell for a formula.
func TestExport(t *testing.T) {
	b := open(t, "")
	_, h, text := b.get("/lag?format=csv")
	if !strings.HasPrefix(text, "dataset,topic,partition") || !strings.Contains(h.Get("Content-Disposition"), "freshet-lag.csv") {
		t.Errorf("%v %s", h, text)
	}
	if _, _, text := b.get("/audit?format=json"); !strings.HasPrefix(text, `[{"id":1,`) {
		t.Errorf("JSON: %s", text)
	}
	if status, _, _ := b.get("/lag?format=xml"); status != http.StatusBadRequest {
		t.Errorf("another format: %d", status)
	}
}

// What is pasted is sent as what it is, and checked for viewers as well.
func TestCheckOfADataset(t *testing.T) {
	b := open(t, "", access.Viewer).as(access.Viewer)
	for text, want := range map[string]string{`{"type":"object"}`: `"schema":{"type":"object"}`, "dataset: users\n": `"declaration":"dataset: users\n"`} {
		status, _, page := b.post("/dataset", "_form", b.secret("/dataset?name=users"), "do", "check", "name", "users", "text", text)
		if status != http.StatusOK || !strings.Contains(page, "not compatible") || !strings.Contains(page, "ALTER TABLE x") {
			t.Errorf("%q: %d %s", text, status, page)
		}
		checkPage(t, "/dataset", page)
		if posts := b.posts(); !strings.Contains(posts[len(posts)-1], want) {
			t.Errorf("%q was sent as %s", text, posts[len(posts)-1])
		}
	}
}

// Copies are compared on request, and what is stale leads to its record.
func TestVerifyNow(t *testing.T) {
	b := open(t, "", access.Operator).as(access.Operator)
	status, _, text := b.post("/consistency", "_form", b.secret("/consistency"), "do", "verify", "dataset", "users")
	if status != http.StatusOK || !strings.Contains(text, `id="verified"`) || strings.Count(text, `href="/record?dataset=users`) < 2 {
		t.Errorf("%d %s", status, text)
	}
	checkPage(t, "/consistency", text)
	if posts := b.posts(); len(posts) != 1 || !strings.Contains(posts[0], `"dataset":"users"`) {
		t.Errorf("requests %q", posts)
	}
}

// The doctor's findings are a page, and the documents for programs are there for who signed in.
func TestDoctorAndDocuments(t *testing.T) {
	b := open(t, "", access.Viewer, access.Operator).as(access.Operator)
	status, _, text := b.post("/doctor", "_form", b.secret("/doctor"))
	if status != http.StatusOK || !strings.Contains(text, `id="findings"`) {
		t.Errorf("the doctor: %d %s", status, text)
	}
	checkPage(t, "/doctor", text)
	if status, _, text := b.get("/about/openapi.json"); status != http.StatusOK || text != "{}\n" {
		t.Errorf("the document: %d %s", status, text)
	}
	if _, _, text := b.get("/about"); strings.Contains(text, "mysql.dsn") {
		t.Error("settings are shown to an operator")
	}
}
