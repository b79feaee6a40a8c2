package e2e_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/browser"
	"github.com/freshet/freshet/internal/testenv"
)

// TestConsole uses the console as people do, in a browser, on one shop. The screens come first, before actions change what they show.
func TestConsole(t *testing.T) {
	testenv.Chromium(t) // without it nothing here can be tested, so the shop need not open
	c := newConsole(t, nil)
	t.Run("screens", c.showsAllScreens)
	t.Run("roles", c.refusesWhatTheRoleMayNotDo)
	t.Run("pause", c.pausesAndResumes)
	t.Run("replay", c.replays)
	t.Run("stale copy", c.fixesStaleCopy)
	t.Run("keyboard", c.replaysByKeyboard)
	t.Run("flush", c.flushesNode)
	t.Run("redrive", c.redrivesLetter)
}

// showsAllScreens opens each screen in both themes and on a telephone. A page fails by itself for errors in its console and violations of its policy.
func (c *console) showsAllScreens(t *testing.T) {
	for _, s := range c.screens() {
		t.Run(s.name, func(t *testing.T) {
			p := c.page(t, "admin")
			for _, theme := range []string{browser.Light, browser.Dark} {
				p.Theme(theme)
				p.Open(c.url + s.path)
				for _, sel := range s.shows {
					p.Await(sel)
				}
				p.Axe()
			}
			p.Viewport(380, 800)
			p.Open(c.url + s.path)
			if by, what := p.Overflow(); by > 0 {
				t.Errorf("at 380 pixels %s is %d too wide: %s", s.path, by, what)
			}
			p.Axe()
		})
	}
}

// reason fills in why.
func reason(p *browser.Page, text string) {
	p.Fill(browser.Role("textbox", "Reason (kept in the audit log)"), text)
}

// audited wants the audit log to have a done action with a reason.
func (c *console) audited(t *testing.T, action, why string) {
	t.Helper()
	if n := c.number1("SELECT COUNT(*) FROM freshet_audit WHERE actor = 'operator' AND action = '" + action + "' AND outcome < 300 AND outcome > 0 AND detail LIKE '%" + why + "%'"); n == 0 {
		t.Errorf("the audit log has no %s for %q", action, why)
	}
}

// A paused dataset waits on every worker, and the open page shows how much.
func (c *console) pausesAndResumes(t *testing.T) {
	p := c.page(t, "operator")
	p.Open(c.url + "/lag")
	p.Click("#d-products button[value=pause]")
	p.Await(browser.Words("Pause products on every worker?"))
	reason(p, "the table is moved")
	p.Click(browser.Role("button", "Pause"))
	p.Await(browser.Words("The dataset is paused on every worker."))
	p.Await(browser.Words("operator,"))
	c.audited(t, "pause-dataset", "the table is moved")
	p.Open(c.url + "/nodes") // the worker looks once a second
	p.Await(browser.Words("dataset products is paused since"))
	p.Open(c.url + "/lag")
	c.publish("products", "lamp-01", "lamp-02")
	shows(t, p, "#d-products td:nth-child(4)", "2") // live
	c.reaches(0, "SELECT COUNT(*) FROM products WHERE _version = ?", c.version.Load())
	p.Click("#d-products button[value=resume]")
	p.Await(browser.Words("Let products continue?"))
	reason(p, "moved")
	p.Click(browser.Role("button", "Resume"))
	p.Await(browser.Words("The dataset continues."))
	c.reaches(2, "SELECT COUNT(*) FROM products WHERE _version = ?", c.version.Load())
	shows(t, p, "#d-products td:nth-child(4)", "0")
}

// damage gives rows older versions, as a person with a database client does.
func (c *console) damage(table, key string, keys ...string) {
	c.t.Helper()
	for _, k := range keys {
		c.exec("UPDATE "+table+" SET _version = _version - 1 WHERE "+key+" = ?", k)
	}
}

// The wizard shows by a dry run what a replay would do, and the page of the replay follows it to its end.
func (c *console) replays(t *testing.T) {
	c.damage("orders", "number", "1001", "1002", "1003")
	p := c.page(t, "operator")
	p.Click(browser.Role("link", "Jobs"))
	p.Click(browser.Role("link", "New job"))
	p.Fill(browser.Role("combobox", "Dataset"), "orders")
	p.Click(browser.Role("button", "Next: which events"))
	p.Await(browser.Words("Step 2 of 3"))
	reason(p, "rows were changed by hand")
	p.Click(browser.Role("button", "Next: dry run"))
	p.Await(browser.Words("Step 3 of 3: start it"))
	p.Await(browser.Words("In earnest, 3 would be applied"))
	if n := c.number1("SELECT COUNT(DISTINCT _version) FROM orders"); n != 2 {
		t.Fatalf("after the dry run the rows have %d versions, want that of the damaged ones and that of the others", n)
	}
	p.Fill("input[name=typed]", "users")
	p.Expect(browser.Request, "/jobs/new: 422")
	p.Click(browser.Role("button", "Start"))
	p.Await(browser.Words("type orders to confirm"))
	p.Click(browser.Role("link", "Try again"))
	p.Fill("input[name=typed]", "orders")
	p.Click(browser.Role("button", "Start"))
	p.Await(browser.Words("The job was started."))
	p.Await(browser.Role("link", "Run again")) // live: it is done
	c.reaches(1, "SELECT COUNT(DISTINCT _version) FROM orders")
	u, err := url.Parse(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	var done api.Replay
	c.ask("viewer", "/v1/replays/"+u.Query().Get("id"), &done)
	if done.State != "done" || done.Spec.DryRun || done.Total.Applied != 3 || done.Actor != "operator" || done.Spec.Reason != "rows were changed by hand" {
		t.Errorf("the replay: %+v", done)
	}
}

// A copy that is older than its row is seen on the page of the record, and made stale there.
func (c *console) fixesStaleCopy(t *testing.T) {
	const key = "lamp-05"
	c.plantEntry(c.redis.Client(t), 1, "product:"+key, 1, `{"sku":"lamp-05","title":"old"}`)
	p := c.page(t, "operator")
	p.Open(c.url + "/record")
	p.Fill(browser.Role("combobox", "Dataset"), "products")
	p.Fill(browser.Role("textbox", "Key"), key)
	p.Click(browser.Role("button", "Show"))
	p.Await("#verdict.bad")
	if got := p.Text("#verdict"); !strings.Contains(got, "The shared entry has version 1") {
		t.Errorf("the verdict is %q", got)
	}
	p.Click(browser.Role("button", "Invalidate…"))
	p.Await(browser.Words("Make the cached copies of products lamp-05 stale?"))
	reason(p, "an entry was written by hand")
	p.Click(browser.Role("button", "Invalidate"))
	p.Await(browser.Words("The cached copies of the record were made stale."))
	p.Await("#verdict.ok")
	c.audited(t, "invalidate-record", "written by hand")
	for i, caches := range c.caches {
		v, err := caches["products"].Get(t.Context(), key)
		if title := fmt.Sprint(v["title"]); err != nil || !strings.Contains(title, secret) {
			t.Errorf("node %d reads %q, %v", i+1, title, err)
		}
	}
}

// A row that was changed by hand is found and replayed without a mouse.
func (c *console) replaysByKeyboard(t *testing.T) {
	const key = "lamp-09"
	c.damage("products", "sku", key)
	damaged := c.number1("SELECT _version FROM products WHERE sku = '" + key + "'")
	p := c.page(t, "operator")
	p.Press("Control+k")
	p.Await("#palette")
	p.Type("products/" + key)
	p.Await(browser.Words("products " + key))
	p.Press("Enter")
	p.Await("#verdict.bad")
	if got := p.Text("#verdict"); !strings.Contains(got, "replay this key") {
		t.Errorf("the verdict is %q", got)
	}
	p.TabTo("link", "Replay…")
	p.Press("Enter")
	p.Await(browser.Words("Step 1 of 3"))
	p.TabTo("button", "Next: which events")
	p.Press("Enter")
	p.Await(browser.Words("Step 2 of 3"))
	p.TabTo("textbox", "Reason (kept in the audit log)")
	p.Type("row was changed")
	p.TabTo("button", "Next: dry run")
	p.Press("Enter")
	p.Await(browser.Words("In earnest, 1 would be applied"))
	p.TabTo("textbox", "Type products to confirm")
	p.Type("products")
	p.TabTo("button", "Start")
	p.Press("Enter")
	p.Await(browser.Words("The job was started."))
	p.Await(browser.Role("link", "Run again"))
	c.reaches(1, "SELECT COUNT(*) FROM products WHERE sku = ? AND _version > ?", key, damaged)
	p.Open(c.url + "/record?dataset=products&key=" + key)
	p.Await("#verdict.ok")
}

// A flush needs the node's name typed.
func (c *console) flushesNode(t *testing.T) {
	before := c.nodes[1].Stats().Lanes[0].Flushes["asked"]
	p := c.page(t, "operator")
	p.Open(c.url + "/nodes")
	p.Click(browser.Role("link", "shop-2"))
	p.Await("#node")
	p.Click(browser.Role("button", "Flush…"))
	p.Await(browser.Words("Make shop-2 forget its local entries?"))
	reason(p, "a suspicion")
	p.Fill("input[name=typed]", "shop-1")
	p.Expect(browser.Request, "/nodes: 422")
	p.Click(browser.Role("button", "Flush"))
	p.Await(browser.Words("Nothing was done: type shop-2 to confirm."))
	if got := c.nodes[1].Stats().Lanes[0].Flushes["asked"]; got != before {
		t.Fatalf("the node was flushed %d times for another name", got-before)
	}
	p.Fill("input[name=typed]", "shop-2")
	p.Click(browser.Role("button", "Flush"))
	p.Await(browser.Words("The node forgot its local entries."))
	if got := c.nodes[1].Stats().Lanes[0].Flushes["asked"]; got != before+1 {
		t.Errorf("the node was flushed %d times", got-before)
	}
	c.audited(t, "flush-node", "a suspicion")
}

// A dead letter is redriven from its own page, once its table takes it, and the others stay.
func (c *console) redrivesLetter(t *testing.T) {
	p := c.page(t, "operator")
	p.Open(c.url + "/deadletter?id=" + c.letter("sofa-2"))
	c.exec("ALTER TABLE products DROP CONSTRAINT sane")
	p.Click(browser.Role("button", "Redrive…"))
	p.Await(browser.Words("Apply these dead letters again?"))
	if got := p.Text("#facts dd"); got != "1" {
		t.Errorf("%s would be applied", got)
	}
	if n := c.number1("SELECT COUNT(*) FROM products WHERE sku = 'sofa-2'"); n != 0 {
		t.Error("the dry run applied the dead letter")
	}
	reason(p, "the check is gone")
	p.Click(browser.Role("button", "Redrive"))
	p.Await(browser.Words("The dead letters were redriven."))
	c.reaches(1, "SELECT COUNT(*) FROM products WHERE sku = 'sofa-2' AND stock = 5000000")
	c.reaches(0, "SELECT COUNT(*) FROM products WHERE sku = 'sofa-1'")
	c.audited(t, "redrive-deadletters", "the check is gone")
}

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
		if n := browser.Evaluate[int](p, "document.querySelectorAll('main form[method=post], main button:not([data-copy])').length - document.querySelectorAll('main form.bar button').length"); n != 0 {
			t.Errorf("a viewer sees %d forms and buttons on %s", n, s.path)
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
