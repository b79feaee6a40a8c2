// Package browser lets tests use pages in a real Chromium as a person does: with the mouse, the keyboard and the names that
// a screen reader announces. A package that uses it has
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// and its tests open pages:
//
//	p := browser.New(t)
//	p.Open(url)
//	p.Fill(browser.Role("textbox", "Reason"), "wrong price")
//	p.Click(browser.Role("button", "Start"))
//	p.Await(browser.Words("Replay started"))
//	p.Axe()
//
// Elements are found by CSS selector, by Role or by Words. A method that needs an element waits until it is there, and fails
// the test when it does not appear within 20 seconds.
//
// Each page has a profile of its own: no cookies, no storage, no cache. It records what went wrong in it (errors in its
// console, uncaught exceptions, failed requests, violations of its content security policy), and at the end of the test each
// of these is an error, unless the test named it by Expect.
package browser

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/remote"

	"github.com/freshet/freshet/internal/testenv"
)

// patience is the longest that a method waits for an element, or for Chromium.
const patience = 20 * time.Second

// Page is a tab of Chromium. Its methods fail the test that opened it. They must not be called from several goroutines.
type Page struct {
	t        testing.TB
	patience time.Duration   // the longest wait for an element
	ctx      context.Context //nolint:containedctx // the tab's life, which chromedp keeps in a context; New's cleanup ends it
	problems *problems
}

// New opens an empty page, 1280 pixels wide and 900 high. It is closed when the test ends. The test is skipped where there
// is no Chromium.
func New(t testing.TB) *Page {
	t.Helper()
	address := testenv.Chromium(t)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // the page is asked for problems in a cleanup
	p := &Page{t: t, patience: patience, problems: &problems{urls: map[string]string{}, waiting: map[string]struct{}{}}}
	ctx, closeAllocator := remote.NewAllocator(ctx, address, remote.NoModifyURL)
	// Chromium may be newer than the protocol's description that chromedp has; events that it does not know are no fault of
	// the page.
	ctx, leave := chromedp.NewContext(ctx, chromedp.WithErrorf(func(string, ...any) {}), chromedp.WithLogf(func(string, ...any) {}))
	t.Cleanup(func() {
		leave()
		closeAllocator()
		cancel()
	})
	if _, err := chromedp.Targets(ctx); err != nil { // connects; the profile below needs a connection
		t.Fatalf("browser: connect to Chromium: %v", err)
	}
	tab, closeTab := chromedp.NewContext(ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.problems.note))
	t.Cleanup(closeTab)
	p.ctx = tab
	if err := chromedp.Do(tab); err != nil {
		t.Fatalf("browser: open a page: %v", err)
	}
	call(p, audits.Enable, cdp.Empty{})
	p.Viewport(1280, 900)
	t.Cleanup(p.report)
	return p
}

// call runs a command of the protocol.
func call[P, R any](p *Page, c cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	out, err := tried(ctx, c, params)
	if err != nil {
		p.t.Fatalf("browser: %s: %v", c.Method, err)
	}
	return out
}

// tried is call for a caller that treats the error.
func tried[P, R any](ctx context.Context, c cdp.Command[P, R], params P) (R, error) {
	return chromedp.Run(ctx, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, c, params) })
}

// eventually asks until try returns nil. Each try may hit a document that is being replaced by the next one.
func (p *Page) eventually(doing string, try func(ctx context.Context) error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, p.patience)
	defer cancel()
	if err := until(ctx, try); err != nil {
		p.t.Fatalf("browser: %s: not within %s: %v; the page is %s", doing, p.patience, err, p.where())
	}
}

// until asks every 20 ms; its error is the last answer that the deadline did not cut off.
func until(ctx context.Context, try func(ctx context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}

// where is the address of the page and the beginning of its text, for messages.
func (p *Page) where() string {
	s, err := evaluate[string](p.ctx, "location.href + (document.body ? ', which says: ' + document.body.innerText.slice(0, 600) : '')")
	if err != nil {
		return "not to be asked (" + err.Error() + ")"
	}
	return strings.Join(strings.Fields(s), " ")
}

// evaluate runs JavaScript in the page. The page's content security policy does not apply to it.
func evaluate[T any](ctx context.Context, script string) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
}
