package console_test

import (
	"bufio"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/testenv"
)

// pages are the addresses of all screens.
func pages() []string {
	return []string{
		"/", "/record", "/record?dataset=users&key=1", "/lag", "/lag?dataset=users&behind=1", "/messages?dataset=users", "/deadletters", "/deadletters?dataset=users&reason=schema",
		"/deadletter?id=freshet.users%2Fabc%2F0%407.0", "/jobs", "/jobs/new", "/jobs/new?step=2&dataset=users&action=apply", "/jobs/new?step=2&dataset=users&action=redrive",
		"/jobs/new?step=2&dataset=users&action=rebuild", "/job?id=r1", "/nodes", "/nodes?id=n1", "/nodes?id=w1", "/nodes?id=none", "/datasets", "/dataset?name=users", "/consistency", "/audit", "/doctor", "/about", "/find?q=users", "/find?q=users/1",
	}
}

// Every screen shows what the API has in each language, escapes it, and has nothing inline that the policy forbids.
func TestScreens(t *testing.T) {
	for _, language := range []string{"en", "zh-CN"} {
		b := open(t, "")
		for _, path := range pages() {
			status, h, text := b.get(path, "Accept-Language", language)
			if status != http.StatusOK {
				t.Errorf("%s: status %d: %s", path, status, text)
			}
			if got := h.Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'self'") {
				t.Errorf("%s: the policy is %q", path, got)
			}
			if !strings.Contains(text, `<html lang="`+language+`"`) {
				t.Errorf("%s is not in %s", path, language)
			}
			checkPage(t, path, text)
		}
	}
}

// checkPage finds what must not be in a page.
func checkPage(t *testing.T, path, text string) {
	t.Helper()
	if strings.Contains(text, "<img src=x") || strings.Contains(text, "ZgotmplZ") || strings.Contains(text, "%!") {
		t.Errorf("%s: something is not escaped, or not formatted:\n%s", path, text)
	}
	ids, row := map[string]bool{}, ""
	z := html.NewTokenizer(strings.NewReader(text))
	for z.Next() != html.ErrorToken {
		tok := z.Token()
		if tok.Data == "tr" { // updates find a row by its id; they would put another row's text around its form
			row = tok.String()
		} else if tok.Data == "form" && tok.Type == html.StartTagToken && strings.HasPrefix(row, "<tr") && !strings.Contains(row, "id=") {
			t.Errorf("%s: a row with a form has no id", path)
		}
		for _, a := range tok.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") || tok.Data == "script" && a.Key == "src" && !strings.HasPrefix(a.Val, "/") {
				t.Errorf("%s: <%s %s=%q>", path, tok.Data, a.Key, a.Val)
			}
			if a.Key == "href" && strings.Contains(a.Val, "%3d") {
				t.Errorf("%s: a query is escaped twice: %s", path, a.Val)
			}
			if a.Key == "id" && tok.Type != html.EndTagToken {
				if ids[a.Val] {
					t.Errorf("%s: the id %s is there twice", path, a.Val)
				}
				ids[a.Val] = true
			}
		}
		if tok.Data == "style" || tok.Data == "script" && tok.Type == html.StartTagToken && len(tok.Attr) < 2 {
			t.Errorf("%s has an inline <%s>", path, tok.Data)
		}
	}
}

// Under a path of a proxy every address begins with it, and the proxy may pass it on or remove it.
func TestBasePath(t *testing.T) {
	b := open(t, "/freshet")
	address := regexp.MustCompile(`(?:href|src|action|data-find)="(/[^"]*)"`)
	for _, path := range pages() {
		_, _, text := b.get(path)
		for _, m := range address.FindAllStringSubmatch(text, -1) {
			if !strings.HasPrefix(m[1], "/freshet/") {
				t.Errorf("%s leads to %s", path, m[1])
			}
		}
	}
	asset := regexp.MustCompile(`/assets/[^"]*console.css`)
	_, _, text := b.get("/")
	if status, h, _ := b.get(asset.FindString(text)); status != http.StatusOK || !strings.Contains(h.Get("Cache-Control"), "immutable") {
		t.Errorf("the style sheet: status %d, Cache-Control %q", status, h.Get("Cache-Control"))
	}
	b.url = strings.TrimSuffix(b.url, "/freshet")
	if status, _, _ := b.get("/lag"); status != http.StatusOK {
		t.Errorf("without the path: status %d", status)
	}
	if status, h, _ := b.post("/preferences", "theme", "dark", "back", "/lag"); status != http.StatusSeeOther || h.Get("Location") != "/freshet/lag" {
		t.Errorf("a form leads to %d %s", status, h.Get("Location"))
	}
}

// What the API owns stays the API's, and an address that no screen has is its problem for programs and a page for people.
func TestTheAPIIsBehind(t *testing.T) {
	b := open(t, "")
	if _, h, text := b.get("/v1/lag"); h.Get("Content-Type") != "application/json" || !strings.Contains(text, "items") {
		t.Errorf("the API answers %s", text)
	}
	if status, _, text := b.get("/nowhere", "Accept", "application/json"); status != http.StatusNotFound || !strings.Contains(text, "no such route") {
		t.Errorf("a program gets %d %s", status, text)
	}
	if status, _, text := b.get("/nowhere"); status != http.StatusNotFound || !strings.Contains(text, "There is no page") {
		t.Errorf("a person gets %d %s", status, text)
	}
	b.api.refused = http.StatusServiceUnavailable
	status, _, text := b.get("/lag")
	if status != http.StatusServiceUnavailable || !strings.Contains(text, "refused &lt;b&gt;by&lt;/b&gt; the test") || !strings.Contains(text, "some_code") {
		t.Errorf("a refusal becomes %d %s", status, text)
	}
}

// A page and all its assets are small.
func TestPagesAreSmall(t *testing.T) {
	b := open(t, "")
	b.client.Transport = &http.Transport{DisableCompression: true}
	_, _, text := b.get("/")
	prefix := regexp.MustCompile(`/assets/[0-9a-f]+/`).FindString(text)
	names, err := os.ReadDir("web/assets")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range names {
		status, h, body := b.get(prefix+n.Name(), "Accept-Encoding", "gzip")
		if status != http.StatusOK || h.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: status %d, encoding %q", n.Name(), status, h.Get("Content-Encoding"))
		}
		total += len(body)
	}
	_, _, page := b.get("/", "Accept-Encoding", "gzip")
	if total += len(page); total > 150_000 {
		t.Errorf("the overview and its assets are %d bytes", total)
	}
	t.Logf("the overview and its assets: %d bytes, compressed", total)
}

// A live page sends its content when it differs, and ends when the person may not look any more.
func TestLivePage(t *testing.T) {
	b := open(t, "", access.Viewer, access.Admin).as(access.Viewer)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url+"/lag", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	resp, err := b.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Fatalf("the stream is %q", got)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		sc := bufio.NewScanner(resp.Body)
		for sc.Buffer(nil, 1<<20); sc.Scan(); {
			lines <- sc.Text()
		}
	}()
	await := func(wanted string) {
		t.Helper()
		for {
			line := testenv.Await(t, lines)
			if strings.Contains(line, wanted) {
				return
			}
		}
	}
	await("Oldest waits")
	b.api.mu.Lock()
	b.api.lag = 4711
	b.api.mu.Unlock()
	await("4\u202f711")
	text, err := os.ReadFile(b.file)
	if err != nil {
		t.Fatal(err)
	}
	_, admin, _ := strings.Cut(string(text), "\n")
	if err := os.WriteFile(b.file, []byte(admin), 0o600); err != nil {
		t.Fatal(err)
	}
	await("event: signed-out")
	for range lines { // it ends
	}
}
