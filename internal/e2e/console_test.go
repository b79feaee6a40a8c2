package e2e_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/browser"
	"github.com/freshet/freshet/internal/testenv"
)

// TestConsole uses the console as people do, in a browser, on one shop. The screens come first, before actions change what they show.
func TestConsole(t *testing.T) {
	testenv.Chromium(t) // without it nothing here can be tested, so the shop need not open
	shop := newConsole(t, nil)
	for _, one := range []struct {
		name string
		test func(c *console, t *testing.T)
	}{
		{"screens", (*console).showsAllScreens},
		{"roles", (*console).refusesWhatTheRoleMayNotDo},
		{"sign-in", (*console).signsInAndOut},
		{"proxy", (*console).worksBehindProxy},
		{"language", (*console).speaksChinese},
		{"keys", (*console).keysWork},
		{"live", (*console).livePageKeepsStill},
		{"pasted schema", (*console).checksPasted},
		{"doctor", (*console).runsDoctor},
		{"pause", (*console).pausesAndResumes},
		{"replay", (*console).replays},
		{"running job", (*console).changesRunningJob},
		{"stale copy", (*console).fixesStaleCopy},
		{"keyboard", (*console).replaysByKeyboard},
		{"flush", (*console).flushesNode},
		{"message", (*console).publishesAgain},
		{"edit", (*console).editsLetter},
		{"discard", (*console).discardsLetters},
		{"redrive", (*console).redrivesLetter},
		{"overview", (*console).overviewSaysWhatIsWrong},
	} {
		t.Run(one.name, func(t *testing.T) { one.test(shop.in(t), t) })
	}
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
	p.Await(browser.Words("The dataset is paused. Workers stop with it within a few seconds."))
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
