package browser

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// Open shows a page and waits until it has loaded.
func (p *Page) Open(url string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 3*patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		p.t.Fatalf("browser: open %s: %v", url, err)
	}
}

// Reload shows the page once more and waits until it has loaded.
func (p *Page) Reload() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 3*patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Reload()); err != nil {
		p.t.Fatalf("browser: reload %s: %v", p.where(), err)
	}
}

// Back presses the browser's back button. Await what the page before this one shows.
func (p *Page) Back() {
	p.t.Helper()
	Evaluate[chromedp.Void](p, "history.back()")
}

// URL is the address that the page has now.
func (p *Page) URL() string {
	p.t.Helper()
	return Evaluate[string](p, "location.href")
}

// middle is a function of JavaScript: where to click an element, or why a click would not reach it.
const middle = `function() {
	if (this.disabled || this.closest('[inert]')) return {Why: 'it is disabled'};
	const r = this.getClientRects()[0];
	if (!r) return {Why: 'it has no place on the page'};
	const x = r.left + r.width / 2, y = r.top + r.height / 2, top = document.elementFromPoint(x, y);
	if (!top) return {Why: 'it is outside the window'};
	const label = top.closest('label');
	if (!this.contains(top) && !top.contains(this) && !(label && label.control === this))
		return {Why: 'it is covered by <' + top.tagName.toLowerCase() + ' class="' + top.className + '">'};
	return {X: x, Y: y};
}`

// Click clicks the middle of an element with the mouse. The element is the only visible one that sel selects, is not
// disabled, and is not covered by another one.
func (p *Page) Click(sel Selector) {
	p.t.Helper()
	p.eventually("click "+string(sel), func(ctx context.Context) error {
		id, err := one(ctx, sel)
		if err != nil {
			return err
		}
		if _, err := tried(ctx, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{ObjectID: id}); err != nil {
			return fmt.Errorf("scroll: %w", err)
		}
		at, err := on[struct {
			Why  string
			X, Y float64
		}](ctx, id, middle)
		if err != nil {
			return err
		}
		if at.Why != "" {
			return errors.New(at.Why)
		}
		return chromedp.Do(ctx, chromedp.MouseClickXY(at.X, at.Y))
	})
}

// choose is a function of JavaScript: it chooses an option of a select element by label or value.
const choose = `function(want) {
	const o = [...this.options].find(o => o.label.trim() === want || o.value === want);
	if (!o) return 'it has no option ' + want + ', only ' + [...this.options].map(o => o.label).join(', ');
	this.value = o.value;
	this.dispatchEvent(new Event('input', {bubbles: true}));
	this.dispatchEvent(new Event('change', {bubbles: true}));
	return '';
}`

// Fill replaces the text of a field, as by typing, or chooses the option of a list that has this label or value.
func (p *Page) Fill(sel Selector, text string) {
	p.t.Helper()
	p.eventually("fill "+string(sel), func(ctx context.Context) error {
		id, err := one(ctx, sel)
		if err != nil {
			return err
		}
		tag, err := on[string](ctx, id, `function() {
	if (this.disabled || this.readOnly) return 'disabled';
	this.focus();
	if (this.select) this.select();
	return this.tagName;
}`)
		switch {
		case err != nil:
			return err
		case tag == "disabled":
			return errors.New("it cannot be edited")
		case tag == "SELECT":
			why, err := on[string](ctx, id, choose, text)
			if err == nil && why != "" {
				err = errors.New(why)
			}
			return err
		case text == "":
			return chromedp.Do(ctx, chromedp.KeyEvent("\b"))
		}
		if _, err := tried(ctx, input.InsertText, input.InsertTextParams{Text: text}); err != nil {
			return fmt.Errorf("type: %w", err)
		}
		return nil
	})
}

// Text is the text of the first visible element, with single spaces.
func (p *Page) Text(sel Selector) (text string) {
	p.t.Helper()
	p.eventually("read "+string(sel), func(ctx context.Context) error {
		ids, err := visible(ctx, sel)
		if err != nil {
			return err
		}
		text, err = on[string](ctx, ids[0], "function() { return ['INPUT', 'TEXTAREA', 'SELECT'].includes(this.tagName) ? this.value : this.innerText }")
		return err
	})
	return strings.Join(strings.Fields(text), " ")
}

// Attribute is an attribute of the first visible element, "" when it has none.
func (p *Page) Attribute(sel Selector, name string) (value string) {
	p.t.Helper()
	p.eventually("read "+string(sel), func(ctx context.Context) error {
		ids, err := visible(ctx, sel)
		if err != nil {
			return err
		}
		value, err = on[string](ctx, ids[0], "function(name) { return this.getAttribute(name) || '' }", name)
		return err
	})
	return value
}

// Count is the number of visible elements at this moment.
func (p *Page) Count(sel Selector) (n int) {
	p.t.Helper()
	p.eventually("count "+string(sel), func(ctx context.Context) error {
		ids, err := visible(ctx, sel)
		if errors.Is(err, errNone) || errors.Is(err, errHidden) {
			err = nil
		}
		n = len(ids)
		return err
	})
	return n
}

// Await waits until a visible element is there.
func (p *Page) Await(sel Selector) {
	p.t.Helper()
	p.eventually("wait for "+string(sel), func(ctx context.Context) error {
		_, err := visible(ctx, sel)
		return err
	})
}

// AwaitGone waits until no such element is visible.
func (p *Page) AwaitGone(sel Selector) {
	p.t.Helper()
	p.eventually("wait for the end of "+string(sel), func(ctx context.Context) error {
		ids, err := visible(ctx, sel)
		switch {
		case errors.Is(err, errNone) || errors.Is(err, errHidden):
			return nil
		case err != nil:
			return err
		}
		return fmt.Errorf("%d are there", len(ids))
	})
}

// Cookies are those that the page's server gets, with what only the browser knows of them.
func (p *Page) Cookies() []http.Cookie {
	p.t.Helper()
	var out []http.Cookie
	for _, c := range call(p, network.GetCookies, network.GetCookiesParams{}).Cookies {
		//nolint:gosec // it is read, not set
		one := http.Cookie{Name: c.Name, Value: c.Value, Domain: c.Domain, Path: c.Path, HttpOnly: c.HTTPOnly, Secure: c.Secure}
		if c.Expires > 0 {
			one.Expires = time.Unix(int64(c.Expires), 0)
		}
		switch c.SameSite {
		case network.CookieSameSiteStrict:
			one.SameSite = http.SameSiteStrictMode
		case network.CookieSameSiteLax:
			one.SameSite = http.SameSiteLaxMode
		case network.CookieSameSiteNone:
			one.SameSite = http.SameSiteNoneMode
		}
		out = append(out, one)
	}
	return out
}

// Evaluate runs JavaScript in the page and decodes its value, or that of the promise. The page's content security policy
// does not apply to it.
func Evaluate[T any](p *Page, script string) T {
	p.t.Helper()
	v, err := evaluate[T](p.ctx, script)
	if err != nil {
		p.t.Fatalf("browser: evaluate %.80s: %v", script, err)
	}
	return v
}
