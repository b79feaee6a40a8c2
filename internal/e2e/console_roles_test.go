package e2e_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/browser"
)

// refusesWhatTheRoleMayNotDo: a viewer sees neither content nor buttons, and what forms cannot send by themselves is refused.
func (c *console) refusesWhatTheRoleMayNotDo(t *testing.T) {
	p := c.page(t, "viewer")
	for _, s := range c.screens() {
		if s.least != "" {
			p.Expect(browser.Request, strings.Split(s.path, "?")[0])
			p.Open(c.url + s.path)
			p.Await(browser.Words("This page needs the role " + s.least))
			continue
		}
		p.Open(c.url + s.path)
		for _, sel := range s.shows {
			p.Await(sel)
		}
		// Filters, copying and the check of a pasted schema change nothing.
		if got := browser.Evaluate[[]string](p, `[...document.querySelectorAll('main form[method=post], main button')].filter(e =>
			!e.matches('[data-copy]') && !e.closest('form.bar, form[action$="/dataset"]')).map(e => e.outerHTML)`); len(got) > 0 {
			t.Errorf("a viewer sees on %s: %s", s.path, got)
		}
		if html := browser.Evaluate[string](p, "document.documentElement.outerHTML"); strings.Contains(html, secret) {
			t.Errorf("a viewer gets content on %s", s.path)
		}
	}
	operator := c.page(t, "operator")
	operator.Open(c.url + "/messages?dataset=products")
	if html := browser.Evaluate[string](operator, "document.documentElement.outerHTML"); !strings.Contains(html, secret) {
		t.Error("an operator gets no content, so that the test above proves nothing")
	}
	c.refusesForgedForms(t, p, operator)
}

// refusesForgedForms sends what a person or another site could send without the console's own pages.
func (c *console) refusesForgedForms(t *testing.T, viewer, operator *browser.Page) {
	t.Helper()
	letter := c.letter("sofa-1")
	forms := map[string]url.Values{
		"/lag":         {"do": {"pause"}, "dataset": {"products"}, "sure": {"1"}, "reason": {"forged"}},
		"/nodes":       {"do": {"flush"}, "id": {"shop-1"}, "typed": {"shop-1"}, "sure": {"1"}, "reason": {"forged"}},
		"/record":      {"do": {"invalidate"}, "dataset": {"products"}, "key": {"lamp-01"}, "sure": {"1"}, "reason": {"forged"}},
		"/deadletters": {"do": {"discard"}, "id": {letter}, "typed": {"discard"}, "sure": {"1"}, "reason": {"forged"}},
		"/deadletter":  {"do": {"edit"}, "id": {letter}, "data": {`{}`}, "sure": {"1"}, "reason": {"forged"}},
		"/jobs/new":    {"do": {"start"}, "dataset": {"products"}, "typed": {"products"}, "action": {"apply"}, "reason": {"forged"}},
		"/job":         {"do": {"cancel"}, "id": {c.job}, "reason": {"forged"}},
		"/messages":    {"do": {"publish"}, "dataset": {"products"}, "key": {"lamp-01"}, "op": {"delete"}, "version": {"99999999"}, "sure": {"1"}, "reason": {"forged"}},
	}
	for path, form := range forms {
		for _, who := range []struct {
			name          string
			page          *browser.Page
			genuine       bool
			origin, fetch string
		}{
			{"a viewer with the secret of their forms", viewer, true, c.url, "same-origin"},
			{"an operator's browser that another site uses", operator, true, "https://evil.example", "cross-site"},
			{"an operator's browser with a form that is not from the console", operator, false, c.url, "same-origin"},
		} {
			sent := url.Values{}
			for k, v := range form {
				sent[k] = v
			}
			if who.genuine {
				sent.Set("_form", browser.Evaluate[string](who.page, "document.querySelector('input[name=_form]').value"))
			}
			if status := c.post(t, who.page, path, sent, who.origin, who.fetch); status != http.StatusForbidden {
				t.Errorf("%s: a form of %s is answered with %d", path, who.name, status)
			}
		}
	}
	if n := c.number1("SELECT COUNT(*) FROM freshet_audit WHERE detail LIKE '%forged%' AND outcome < 400 AND outcome > 0"); n != 0 {
		t.Errorf("%d forged forms were carried out", n)
	}
	if n := c.number1("SELECT COUNT(*) FROM products WHERE sku = 'lamp-01' AND _deleted = 1"); n != 0 {
		t.Error("a forged form deleted a record")
	}
}

// post sends a form with the cookies of a page.
func (c *console) post(t *testing.T, p *browser.Page, path string, form url.Values, origin, fetch string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", origin)
	req.Header.Set("Sec-Fetch-Site", fetch)
	req.Header.Set("Accept", "text/html")
	for _, cookie := range p.Cookies() {
		req.AddCookie(&cookie)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}
