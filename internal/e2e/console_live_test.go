package e2e_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/browser"
)

// The overview says at once what is wrong and who waits, and that all is well again.
func (c *console) overviewSaysWhatIsWrong(t *testing.T) {
	p := c.page(t, "viewer")
	const sound = "#health:not(.bad)"
	await(t, p, sound)
	c.worker.Stop(t)
	c.publish("orders", shopKeys("orders")...)
	await(t, p, "#health.bad")
	if said := p.Text("#health"); !strings.Contains(said, "No worker is alive") {
		t.Errorf("with a frozen worker the overview says %q", said)
	}
	p.Click("#health a")
	p.Await(browser.Role("heading", "Nodes and workers"))
	c.worker.Cont(t)
	p.Open(c.url + "/")
	await(t, p, sound)
	c.link.Hold() // shop-3 and Redis
	await(t, p, browser.Words("shop-3"))
	c.link.Release()
	await(t, p, sound)
}

// A live page changes by itself, keeps what a person opened, and does not change while updates are paused.
func (c *console) livePageKeepsStill(t *testing.T) {
	p, other := c.page(t, "operator"), c.page(t, "operator")
	p.Open(c.url + "/messages?dataset=orders")
	p.Await("#messages tbody tr")
	p.Click("#messages tbody tr:nth-child(1) > td > details > summary")
	opened := p.Attribute("#messages tbody tr:nth-child(1)", "id")
	c.publish("orders", "ch,2001")
	p.Await(browser.Role("link", "ch,2001"))
	if p.Count(browser.Selector("#"+opened+" > td > details[open]")) != 1 {
		t.Error("the update closed what was open")
	}
	p.Press("p")
	p.Await(browser.Role("button", "Resume updates"))
	other.Open(c.url + "/messages?dataset=orders")
	c.publish("orders", "ch,2002")
	other.Await(browser.Role("link", "ch,2002"))
	c.publish("orders", "ch,2003")
	other.Await(browser.Role("link", "ch,2003")) // a second round of updates
	if p.Count(browser.Role("link", "ch,2002")) > 0 {
		t.Error("a paused page changed")
	}
	p.Press("p")
	p.Await(browser.Role("link", "ch,2003"))
}

// Keys filter, move between rows, open one and show what keys there are.
func (c *console) keysWork(t *testing.T) {
	p := c.page(t, "viewer")
	p.Open(c.url + "/nodes")
	p.Await("#nodes tbody tr")
	p.Press("?")
	p.Await(browser.Words("next and previous row"))
	p.Press("Escape")
	p.AwaitGone(browser.Words("next and previous row"))
	p.Press("j", "j")
	if got := p.Focused(); got != "link shop-2" {
		t.Errorf("j j leads to %q", got)
	}
	p.Press("k", "Enter")
	p.Await("#node")
	if got := p.Text("#node h2"); !strings.HasPrefix(got, "shop-1") {
		t.Errorf("Enter opened %q", got)
	}
	p.Open(c.url + "/messages")
	p.Press("/")
	if got := p.Focused(); got == "" || strings.Contains(got, "Find") {
		t.Errorf("/ leads to %q", got)
	}
}

// In Chinese every screen fits, and axe finds nothing.
func (c *console) speaksChinese(t *testing.T) {
	p := c.page(t, "admin")
	p.Click("details.menu > summary")
	p.Fill("select[name=language]", "zh-CN")
	p.Click(".menu-body form[action$=preferences] button")
	p.Await(browser.Role("heading", "总览"))
	p.Viewport(380, 800)
	for _, s := range c.screens() {
		p.Open(c.url + s.path)
		if lang := p.Attribute("html", "lang"); lang != "zh-CN" {
			t.Errorf("%s is in %s", s.path, lang)
		}
		if by, what := p.Overflow(); by > 0 {
			t.Errorf("%s is %d too wide: %s", s.path, by, what)
		}
	}
	p.Axe()
}

// A person without a session signs in and sees what they asked for; after the sign-out they see nothing.
func (c *console) signsInAndOut(t *testing.T) {
	p := browser.New(t)
	p.Open(c.url + "/lag?dataset=orders")
	p.Axe()
	p.Expect(browser.Request, "/sign-in: 401")
	p.Fill(browser.Role("textbox", "API token"), "frt_wrong")
	p.Press("Enter")
	p.Await(browser.Words("This token is not known."))
	p.Axe()
	p.Fill(browser.Role("textbox", "API token"), c.tokens["viewer"])
	p.Press("Enter")
	p.Await("#d-orders")
	if got, want := p.URL(), c.url+"/lag?dataset=orders"; got != want {
		t.Errorf("the sign-in leads to %s, want %s", got, want)
	}
	session := 0
	for _, k := range p.Cookies() {
		if k.Name == "freshet_session" {
			session++
			if !k.HttpOnly || k.SameSite != http.SameSiteStrictMode {
				t.Errorf("the session's cookie: %+v", k)
			}
		}
	}
	if session != 1 {
		t.Errorf("%d cookies of a session", session)
	}
	p.Click("details.menu > summary")
	p.Click(browser.Role("button", "Sign out"))
	p.Await(browser.Role("heading", "Sign in"))
	p.Open(c.url + "/lag")
	p.Await(browser.Role("heading", "Sign in"))
}

// A schema that is pasted is compared with the one in force, and nothing changes.
func (c *console) checksPasted(t *testing.T) {
	p := c.page(t, "operator")
	p.Open(c.url + "/datasets")
	p.Click(browser.Role("link", "users"))
	p.Await("#properties tbody tr")
	p.Click(browser.Words("Check a changed declaration or schema"))
	p.Fill(browser.Role("textbox", "Paste a declaration (YAML) or a JSON Schema. Nothing is stored."), `{"type": "object", "required": ["id", "email", "name"], "properties": {
		"id": {"type": "integer"}, "email": {"type": "integer"}, "name": {"type": "string", "maxLength": 200}}}`)
	p.Click(browser.Role("button", "Check"))
	p.Await(browser.Words("It is not compatible with the declaration in force."))
	if got := p.Text("#check"); !strings.Contains(got, "email") {
		t.Errorf("the check does not say what is wrong: %s", got)
	}
	p.Axe()
	if n := c.number1("SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'users' AND column_name = 'email' AND data_type = 'varchar'"); n != 1 {
		t.Error("the check changed the table")
	}
}

// The doctor runs from its page.
func (c *console) runsDoctor(t *testing.T) {
	p := c.page(t, "operator")
	p.Open(c.url + "/doctor")
	p.Click(browser.Role("button", "Run the doctor"))
	await(t, p, "#findings, #healthy")
	if !strings.Contains(p.Text("#main"), "refused") && !strings.Contains(p.Text("#main"), "dead letter") {
		t.Errorf("the doctor does not report the dead letters: %s", p.Text("#main"))
	}
	p.Axe()
}
