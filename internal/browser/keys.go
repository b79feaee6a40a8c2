package browser

import (
	"context"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// named returns the rune by which chromedp knows a key, as its users know it.
func named(key string) (string, bool) {
	k, ok := map[string]string{
		"Tab": kb.Tab, "Enter": kb.Enter, "Escape": kb.Escape, "Space": " ", "Backspace": kb.Backspace, "Delete": kb.Delete,
		"ArrowUp": kb.ArrowUp, "ArrowDown": kb.ArrowDown, "ArrowLeft": kb.ArrowLeft, "ArrowRight": kb.ArrowRight,
		"Home": kb.Home, "End": kb.End, "PageUp": kb.PageUp, "PageDown": kb.PageDown,
	}[key]
	if !ok && utf8.RuneCountInString(key) == 1 {
		return key, true
	}
	return k, ok
}

// Press presses keys one after the other: "Tab", "Shift+Tab", "Enter", "Escape", "ArrowDown", "Control+k", "j".
func (p *Page) Press(keys ...string) {
	p.t.Helper()
	for _, key := range keys {
		mods, name := []chromedp.Modifier{}, key
		for _, m := range []struct {
			prefix string
			mod    chromedp.Modifier
		}{{"Control+", chromedp.ModifierCtrl}, {"Shift+", chromedp.ModifierShift}, {"Alt+", chromedp.ModifierAlt}, {"Meta+", chromedp.ModifierMeta}} {
			if rest, ok := strings.CutPrefix(name, m.prefix); ok && rest != "" {
				mods, name = append(mods, m.mod), rest
			}
		}
		k, ok := named(name)
		if !ok {
			p.t.Fatalf("browser: there is no key %q", key)
		}
		ctx, cancel := context.WithTimeout(p.ctx, patience)
		err := chromedp.Do(ctx, chromedp.KeyEvent(k, chromedp.KeyModifiers(mods...)))
		cancel()
		if err != nil {
			p.t.Fatalf("browser: press %s: %v", key, err)
		}
	}
}

// Type types text with the keyboard, into whatever has the focus.
func (p *Page) Type(text string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.KeyEvent(text)); err != nil {
		p.t.Fatalf("browser: type: %v", err)
	}
}

// Focused is the role and the accessible name of the element that has the focus, such as "button Start", as a screen reader
// announces it. It is "" when none has it.
func (p *Page) Focused() (focused string) {
	p.t.Helper()
	p.eventually("look for the focus", func(ctx context.Context) error {
		focused = ""
		active, err := chromedp.Run(ctx, chromedp.Evaluate[*runtime.RemoteObject]("document.activeElement === document.body ? null : document.activeElement"))
		if err != nil || active == nil || active.ObjectID == "" {
			return err
		}
		tree, err := tried(ctx, accessibility.GetPartialAXTree, accessibility.GetPartialAXTreeParams{ObjectID: active.ObjectID, FetchRelatives: no()})
		if err != nil {
			return err
		}
		for _, n := range tree.Nodes {
			focused = strings.TrimSpace(plain(n.Role) + " " + plain(n.Name))
		}
		return nil
	})
	return focused
}

// plain is the text of a value of the accessibility tree.
func plain(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	var s string
	if json.Unmarshal(v.Value, &s) != nil {
		return string(v.Value)
	}
	return s
}

func no() *bool {
	v := false
	return &v
}

// TabTo presses Tab until the element with this role and name has the focus, as a person without a mouse does. It fails
// after 100 steps, or when Tab has come round.
func (p *Page) TabTo(role, name string) {
	p.t.Helper()
	want := strings.TrimSpace(role + " " + name)
	var way []string
	for range 100 {
		p.Press("Tab")
		at := p.Focused()
		if at == want {
			return
		}
		way = append(way, at)
	}
	p.t.Fatalf("browser: Tab does not reach %q; it came by %s", want, strings.Join(way, ", "))
}
