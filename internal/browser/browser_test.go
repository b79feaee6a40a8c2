package browser_test

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/browser"
	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// sound is a page without fault. %s is what a test adds to its main part.
const sound = `<!doctype html><html lang="en"><head><title>Sound</title><link rel="icon" href="data:,"></head><body>
<header><a href="/">Home</a></header>
<main><h1>A sound page</h1>
<form action="/sent"><label for="reason">Reason</label> <input id="reason" name="reason" value="old">
<label for="range">Range</label> <select id="range" name="range"><option value="h">Last hour</option><option value="d">Last day</option></select>
<button>Start</button></form>
<p id="hidden" hidden>Not to be seen</p>%s</main></body></html>`

// site serves pages by path, with a policy that allows what the server itself sends.
func site(t *testing.T, pages map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := pages[r.URL.Path]
		switch {
		case r.URL.Path == "/favicon.ico":
			w.WriteHeader(http.StatusNoContent)
			return
		case !ok:
			http.NotFound(w, r)
			return
		case strings.HasSuffix(r.URL.Path, ".js"):
			w.Header().Set("Content-Type", "text/javascript")
		case strings.HasSuffix(r.URL.Path, ".css"):
			w.Header().Set("Content-Type", "text/css")
		case r.URL.Path == "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, text)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			http.SetCookie(w, &http.Cookie{Name: "session", Value: "s1", Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
		}
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'")
		fmt.Fprint(w, text)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// watched is a test whose failures are looked at instead of counted.
type watched struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (w *watched) Errorf(format string, args ...any) {
	w.errors = append(w.errors, fmt.Sprintf(format, args...))
}

// Fatalf must end the test, so it panics; see failures.
func (w *watched) Fatalf(format string, args ...any) {
	w.Errorf(format, args...)
	panic(w)
}
func (w *watched) Cleanup(f func()) { w.cleanups = append(w.cleanups, f) }

// failures runs a test of a page to its very end and returns how it failed.
func failures(t *testing.T, test func(p *browser.Page)) []string {
	t.Helper()
	w := &watched{TB: t}
	func() {
		defer func() {
			if got := recover(); got != nil && got != any(w) {
				panic(got)
			}
		}()
		test(browser.New(w))
	}()
	for i := range w.cleanups {
		w.cleanups[len(w.cleanups)-1-i]()
	}
	return w.errors
}

func TestPageReportsItsProblems(t *testing.T) {
	pages := map[string]string{
		"/sound":     fmt.Sprintf(sound, ""),
		"/console":   fmt.Sprintf(sound, `<script src="/console.js"></script>`),
		"/thrown":    fmt.Sprintf(sound, `<script src="/thrown.js"></script>`),
		"/rejected":  fmt.Sprintf(sound, `<script src="/rejected.js"></script>`),
		"/inline":    fmt.Sprintf(sound, `<script>document.title = 'inline'</script>`),
		"/styled":    fmt.Sprintf(sound, `<p style="color: red">styled</p>`),
		"/elsewhere": fmt.Sprintf(sound, `<img alt="" src="http://127.0.0.1:1/x.png">`),
		"/evaluates": fmt.Sprintf(sound, `<script src="/evaluates.js"></script>`),
		"/broken":    fmt.Sprintf(sound, `<img alt="" src="/absent.png">`),
		"/mistyped":  fmt.Sprintf(sound, `<link rel="stylesheet" href="/sheet">`),
		"/sheet":     `main { margin: 0 }`,
		"/refused":   fmt.Sprintf(sound, `<script src="/refused.js"></script>`),
		"/left":      fmt.Sprintf(sound, `<script src="/left.js"></script>`),
		"/events":    "data: 1\n\n",

		"/console.js":   `console.error('no %s here', {lane: 3})`,
		"/thrown.js":    `throw new TypeError('thrown away')`,
		"/rejected.js":  `Promise.reject(new Error('rejected'))`,
		"/evaluates.js": `try { eval('1') } catch {}`,
		"/refused.js":   `fetch('/absent.json').catch(() => {})`,
		"/left.js": `new EventSource('/events');
			const stop = new AbortController();
			fetch('/events', {signal: stop.signal}).then(() => { stop.abort(); document.title = 'aborted' }).catch(() => {})`,
	}
	url := site(t, pages)
	for _, c := range []struct {
		path string
		kind browser.Kind
		part string // "" for a page without problem
	}{
		{"/sound", "", ""},
		{"/console", browser.Console, "no %s here"},
		{"/thrown", browser.Exception, "thrown away"},
		{"/rejected", browser.Exception, "rejected"},
		{"/inline", browser.Policy, "script-src-elem forbids kInlineViolation"},
		{"/styled", browser.Policy, "style-src-attr"},
		{"/elsewhere", browser.Policy, "img-src"},
		{"/evaluates", browser.Policy, "kEvalViolation"},
		{"/mistyped", browser.Request, "a style sheet of the type text/html"},
		{"/broken", browser.Request, "GET " + url + "/absent.png: 404"},
		{"/refused", browser.Request, "GET " + url + "/absent.json: 404"},
	} {
		t.Run(strings.Trim(c.path, "/"), func(t *testing.T) {
			got := failures(t, func(p *browser.Page) { p.Open(url + c.path) })
			if c.part == "" {
				if len(got) > 0 {
					t.Errorf("a page without fault fails: %q", got)
				}
				return
			}
			if !anyHas(got, string(c.kind)+": ") || !anyHas(got, c.part) {
				t.Errorf("got %q, want a %s with %q", got, c.kind, c.part)
			}
			got = failures(t, func(p *browser.Page) {
				p.Expect(c.kind, "")
				if c.kind == browser.Policy && c.path == "/elsewhere" {
					p.Expect(browser.Request, "127.0.0.1:1") // what the policy forbids also fails
				}
				p.Open(url + c.path)
			})
			if len(got) > 0 {
				t.Errorf("an expected problem fails the test: %q", got)
			}
		})
	}
	t.Run("expected but absent", func(t *testing.T) {
		got := failures(t, func(p *browser.Page) {
			p.Expect(browser.Console, "lane 3")
			p.Open(url + "/sound")
		})
		if len(got) != 1 || !strings.Contains(got[0], `expects a console error with "lane 3"`) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("stream that is left", func(t *testing.T) {
		got := failures(t, func(p *browser.Page) {
			p.Open(url + "/left")
			testenv.Eventually(t, 10*time.Second, func(context.Context) error {
				if title := browser.Evaluate[string](p, "document.title"); title != "aborted" {
					return fmt.Errorf("the title is %q", title)
				}
				return nil
			})
			p.Open(url + "/sound")
		})
		if len(got) > 0 {
			t.Errorf("leaving a page with a stream fails the test: %q", got)
		}
	})
}

func anyHas(all []string, part string) bool {
	for _, s := range all {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}

func TestAxeSeesFaults(t *testing.T) {
	url := site(t, map[string]string{
		"/sound": fmt.Sprintf(sound, ""),
		"/faults": strings.Replace(fmt.Sprintf(sound, `<img src="data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==">
			<font color="#dddddd">grey on white</font>`), ` lang="en"`, "", 1),
	})
	p := browser.New(t)
	p.Open(url + "/sound")
	p.Axe()
	got := failures(t, func(p *browser.Page) {
		p.Open(url + "/faults")
		p.Axe()
	})
	for _, want := range []string{"image-alt (critical)", "color-contrast (serious)", "html-has-lang (serious)", "[img] <img src="} {
		if !anyHas(got, want) {
			t.Errorf("axe-core does not report %s: %q", want, got)
		}
	}
}

func TestPersonUsesPage(t *testing.T) {
	url := site(t, map[string]string{
		"/":     fmt.Sprintf(sound, ""),
		"/sent": fmt.Sprintf(sound, `<p>Sent</p>`),

		"/plain.js": "// a page that sets no cookie",
	})
	p := browser.New(t)
	p.Open(url + "/")
	if got := p.Text("h1"); got != "A sound page" {
		t.Errorf("heading %q", got)
	}
	p.Fill(browser.Role("textbox", "Reason"), "wrong price")
	p.Fill("#range", "Last day")
	if got := p.Text("#reason"); got != "wrong price" {
		t.Errorf("the field has %q", got)
	}
	p.Click(browser.Role("button", "Start"))
	p.Await(browser.Words("Sent"))
	if got, want := p.URL(), url+"/sent?reason=wrong+price&range=d"; got != want {
		t.Errorf("sent to %s, want %s", got, want)
	}
	p.Back()
	p.AwaitGone(browser.Words("Sent"))
	if n := p.Count("option, button"); n != 1 {
		t.Errorf("%d visible options and buttons, want the button", n)
	}
	if n := p.Count("#hidden"); n != 0 {
		t.Error("a hidden element counts as visible")
	}
	if got := p.Attribute("form", "action"); got != "/sent" {
		t.Errorf("action is %q", got)
	}
	c := p.Cookies()
	if len(c) != 1 || c[0].Name != "session" || !c[0].HttpOnly || c[0].SameSite != http.SameSiteStrictMode {
		t.Errorf("cookies: %+v", c)
	}
	other := browser.New(t)
	if other.Open(url + "/plain.js"); len(other.Cookies()) > 0 {
		t.Error("another page has the cookies of this one")
	}
	if d := p.FirstPaint(); d <= 0 || d > 10*time.Second {
		t.Errorf("first paint after %s", d)
	}
	if n := p.Heap(); n < 100_000 || n > 100<<20 {
		t.Errorf("a heap of %d bytes", n)
	}
}

func TestKeyboardMovesFocus(t *testing.T) {
	url := site(t, map[string]string{
		"/":        fmt.Sprintf(sound, `<p id="keys"></p><script src="/keys.js"></script>`),
		"/sent":    fmt.Sprintf(sound, `<p>Sent</p>`),
		"/keys.js": `addEventListener('keydown', e => { if (e.ctrlKey && e.key === 'k' || e.key === '?') document.getElementById('keys').textContent += e.key })`,
	})
	p := browser.New(t)
	p.Open(url + "/")
	for _, want := range []string{"link Home", "textbox Reason", "combobox Range", "button Start"} {
		if p.Press("Tab"); p.Focused() != want {
			t.Errorf("Tab moves the focus to %q, want %q", p.Focused(), want)
		}
	}
	p.Press("Shift+Tab", "Shift+Tab")
	p.Type("typed")
	p.Press("Control+k", "Shift+?", "Escape")
	p.Await(browser.Words("k?"))
	if got := p.Text("#reason"); got != "typed?" {
		t.Errorf("the field has %q", got)
	}
	p.TabTo("button", "Start")
	p.Press("Enter")
	p.Await(browser.Words("Sent"))
}

func TestMethodsFailWithTheReason(t *testing.T) {
	url := site(t, map[string]string{"/": fmt.Sprintf(sound, `<button disabled>Stop</button><p>Twice</p><p>Twice</p>`)})
	for _, c := range []struct {
		name, want string
		do         func(p *browser.Page)
	}{
		{"absent", "no element", func(p *browser.Page) { p.Click("#absent") }},
		{"hidden", "all hidden", func(p *browser.Page) { p.Click("#hidden") }},
		{"disabled", "it is disabled", func(p *browser.Page) { p.Click(browser.Role("button", "Stop")) }},
		{"two", "2 visible elements", func(p *browser.Page) { p.Click(browser.Words("Twice")) }},
		{"option", "only Last hour, Last day", func(p *browser.Page) { p.Fill("#range", "Last year") }},
		{"stays", "1 are there", func(p *browser.Page) { p.AwaitGone("h1") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := failures(t, func(p *browser.Page) {
				browser.Hasten(p)
				p.Open(url + "/")
				c.do(p)
			})
			if !anyHas(got, c.want) || !anyHas(got, "A sound page") {
				t.Errorf("got %q, want %q and what the page says", got, c.want)
			}
		})
	}
}

func TestLooks(t *testing.T) {
	url := site(t, map[string]string{
		"/": fmt.Sprintf(sound, `<link rel="stylesheet" href="/look.css"><p id="wide">wide</p>`),
		"/look.css": `body { background: #fff } @media (prefers-color-scheme: dark) { body { background: #000; color: #fff } }
			@media (max-width: 600px) { #wide { width: 500px } } main { height: 1500px }`,
	})
	p := browser.New(t)
	dir := t.TempDir()
	for _, c := range []struct {
		theme    string
		width    int
		black    bool
		overflow int
	}{{browser.Light, 1280, false, 0}, {browser.Dark, 380, true, 128}} {
		p.Theme(c.theme)
		p.Viewport(c.width, 700)
		p.Open(url + "/")
		if by, what := p.Overflow(); by != c.overflow || (what == "p#wide") != (by > 0) {
			t.Errorf("at %d the page is %d pixels too wide by %q, want %d", c.width, by, what, c.overflow)
		}
		file := filepath.Join(dir, "shots", c.theme+".png")
		p.Screenshot(file)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if size := img.Bounds().Size(); size.X != c.width || size.Y < 1500 {
			t.Errorf("the picture of %s is %v, want %d × the whole page", c.theme, size, c.width)
		}
		r, _, _, _ := img.At(c.width-2, 300).RGBA()
		if (r == 0) != c.black {
			t.Errorf("the background in %s is %d", c.theme, r)
		}
	}
}
