package e2e_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/browser"
)

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
	if n := c.number1("SELECT COUNT(DISTINCT _version) FROM orders WHERE number < 2000"); n != 2 {
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
	c.reaches(1, "SELECT COUNT(DISTINCT _version) FROM orders WHERE number < 2000")
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

// A job that runs is slowed down, paused, continued and canceled, and its page follows.
func (c *console) changesRunningJob(t *testing.T) {
	const rounds = 40 // more events than a job may read at once
	for range rounds {
		c.publish("products", shopKeys("products")...)
	}
	running := ask[api.Replay](c.world, c.url, 0, "replay", "start", "products", "--apply", "--rate", "2", "--reason", "a slow one")
	p := c.page(t, "operator")
	await(t, p, "#running a") // jobs are counted every few seconds
	p.Click("#running a")
	p.Await(browser.Words("a slow one"))
	change := func(button, why string) {
		t.Helper()
		p.Open(c.url + "/job?id=" + running.ID)
		p.Click(browser.Words("Change it"))
		if why != "" {
			reason(p, why)
		} else {
			p.Fill(browser.Role("spinbutton", "Events a second"), "1")
		}
		p.Click(browser.Role("button", button))
		p.Await(browser.Words("The job was changed."))
	}
	now := func() (r api.Replay) {
		c.ask("viewer", "/v1/replays/"+running.ID, &r)
		return r
	}
	change("Change the limits", "")
	if got := now().Rate; got != 1 {
		t.Errorf("after the change of its limits the job reads %v events a second", got)
	}
	change("Pause", "it is too fast")
	if got := now().State; got != "paused" {
		t.Errorf("the paused job is %s", got)
	}
	change("Resume", "it may continue")
	if got := now().State; got != "running" {
		t.Errorf("the job that may continue is %s", got)
	}
	change("Cancel the job", "it is not needed")
	p.Await(browser.Role("link", "Run again"))
	if got := now(); got.State != "cancelled" || got.Total.Events >= rounds*int64(len(shopKeys("products"))) {
		t.Errorf("the canceled job is %s after %d events", got.State, got.Total.Events)
	}
	c.audited(t, "cancel-replay", "it is not needed")
	p.Open(c.url + "/jobs")
	p.Await(browser.Selector("#j-" + running.ID))
}
