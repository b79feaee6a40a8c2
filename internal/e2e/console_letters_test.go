package e2e_test

import (
	"fmt"
	"testing"

	"github.com/freshet/freshet/internal/browser"
)

// Dead letters that are marked are discarded, but only after the word was typed.
func (c *console) discardsLetters(t *testing.T) {
	users := "SELECT COUNT(*) FROM freshet_dead_letter WHERE dataset = 'users' AND state = "
	p := c.page(t, "operator")
	p.Open(c.url + "/deadletters?dataset=users")
	p.Click("#letters tbody tr:nth-child(1) input[name=id]")
	p.Click(browser.Role("button", "Discard the marked…"))
	p.Await(browser.Words("Discard these dead letters?"))
	if got := p.Text("#facts dd"); got != "1" {
		t.Errorf("%s would be discarded", got)
	}
	reason(p, "nothing to save")
	p.Fill("input[name=typed]", "redrive")
	p.Expect(browser.Request, "/deadletters: 422")
	p.Click(browser.Role("button", "Discard"))
	p.Await(browser.Words("Nothing was done: type discard to confirm."))
	c.reaches(2, users+"'open'")
	p.Fill("input[name=typed]", "discard")
	p.Click(browser.Role("button", "Discard"))
	p.Await(browser.Words("The dead letters were discarded."))
	c.reaches(1, users+"'discarded'")
	c.reaches(1, users+"'open'")
	c.audited(t, "discard-deadletters", "nothing to save")
}

// A dead letter is replaced by a corrected event.
func (c *console) editsLetter(t *testing.T) {
	p := c.page(t, "operator")
	p.Open(c.url + "/deadletter?id=" + c.letter("sofa-3"))
	p.Click(browser.Words("Publish a corrected event in its place"))
	p.Fill(browser.Role("textbox", "Content"), `{"sku":"sofa-3","title":"Sofa 3","price":"900.00","stock":5}`)
	p.Click(browser.Role("button", "Dry run"))
	p.Await(browser.Words("Publish this corrected event?"))
	c.reaches(0, "SELECT COUNT(*) FROM products WHERE sku = 'sofa-3'")
	reason(p, "the stock had too many zeros")
	p.Click(browser.Role("button", "Publish"))
	p.Await(browser.Words("The corrected event was published."))
	c.reaches(1, "SELECT COUNT(*) FROM products WHERE sku = 'sofa-3' AND stock = 5")
	c.audited(t, "edit-deadletter", "too many zeros")
}

// A message is published again, as a new event with another version.
func (c *console) publishesAgain(t *testing.T) {
	const key = "lamp-20"
	version := c.version.Add(1)
	p := c.page(t, "admin") // an operator may not publish
	p.Open(c.url + "/messages?dataset=products&key=" + key + "&from=start")
	p.Click("#messages tbody tr:nth-child(1) > td > details > summary")
	p.Click("#messages tbody tr:nth-child(1) details.act > summary")
	p.Fill("#messages tbody tr:nth-child(1) input[name=version]", fmt.Sprint(version))
	p.Click("#messages tbody tr:nth-child(1) button[value=publish]")
	p.Await(browser.Words("Publish a new event of products " + key + "?"))
	p.Click(browser.Role("button", "Publish"))
	p.Await(browser.Words("The event was published."))
	c.reaches(1, "SELECT COUNT(*) FROM products WHERE sku = '"+key+"' AND _version = ?", version)
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
