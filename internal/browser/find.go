package browser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Selector says which elements are meant: a CSS selector, or what Role or Words return.
type Selector string

// The prefixes of selectors that are not CSS. No CSS selector begins with them.
const (
	rolePrefix  = "role="
	wordsPrefix = "words="
)

// Role selects elements as assistive technology announces them: by role and accessible name, such as "button" and "Start".
// An empty name stands for all names.
func Role(role, name string) Selector { return Selector(rolePrefix + role + " " + name) }

// Words selects the innermost elements whose text contains words. White space counts as one space.
func Words(words string) Selector { return Selector(wordsPrefix + words) }

// byWords and byCSS are functions of JavaScript that return elements.
const (
	byWords = `words => {
	const norm = s => s.replace(/\s+/g, ' ').trim(), want = norm(words), found = [];
	const visit = e => {
		if (e.nodeType !== 1 || e.tagName === 'SCRIPT' || e.tagName === 'STYLE' || !norm(e.textContent).includes(want)) return false;
		let inner = false;
		for (const c of e.children) inner = visit(c) || inner;
		if (!inner) found.push(e);
		return true;
	};
	if (document.body) visit(document.body);
	return found;
}`
	byCSS = `css => [...document.querySelectorAll(css)]`
)

// isVisible is a function of JavaScript: an element that a person can see, though perhaps only after scrolling.
const isVisible = `function() {
	if (!this.isConnected || !this.checkVisibility({opacityProperty: true, visibilityProperty: true})) return false;
	const r = this.getBoundingClientRect();
	return r.width > 0 && r.height > 0;
}`

var (
	errNone   = errors.New("no element")
	errHidden = errors.New("hidden")
)

// find returns the elements of sel, visible or not.
func find(ctx context.Context, sel Selector) ([]runtime.RemoteObjectID, error) {
	if rest, ok := strings.CutPrefix(string(sel), rolePrefix); ok {
		role, name, _ := strings.Cut(rest, " ")
		return findByRole(ctx, role, name)
	}
	expr := "(" + byCSS + ")(" + quote(string(sel)) + ")"
	if words, ok := strings.CutPrefix(string(sel), wordsPrefix); ok {
		expr = "(" + byWords + ")(" + quote(words) + ")"
	}
	list, err := chromedp.Run(ctx, chromedp.Evaluate[*runtime.RemoteObject](expr))
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", sel, err)
	}
	props, err := tried(ctx, runtime.GetProperties, runtime.GetPropertiesParams{ObjectID: list.ObjectID, OwnProperties: yes()})
	if err != nil {
		return nil, fmt.Errorf("read the elements of %s: %w", sel, err)
	}
	var ids []runtime.RemoteObjectID
	for _, one := range props.Result {
		if _, err := strconv.Atoi(one.Name); err == nil && one.Value != nil {
			ids = append(ids, one.Value.ObjectID)
		}
	}
	return ids, nil
}

func findByRole(ctx context.Context, role, name string) ([]runtime.RemoteObjectID, error) {
	doc, err := chromedp.Run(ctx, chromedp.Evaluate[*runtime.RemoteObject]("document"))
	if err != nil {
		return nil, fmt.Errorf("look for the document: %w", err)
	}
	tree, err := tried(ctx, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{ObjectID: doc.ObjectID, Role: role, AccessibleName: name})
	if err != nil {
		return nil, fmt.Errorf("look for %s %q: %w", role, name, err)
	}
	var ids []runtime.RemoteObjectID
	for _, n := range tree.Nodes {
		if n.Ignored || n.BackendDOMNodeID == 0 {
			continue
		}
		node, err := tried(ctx, dom.ResolveNode, dom.ResolveNodeParams{BackendNodeID: n.BackendDOMNodeID})
		if err != nil {
			return nil, fmt.Errorf("resolve %s %q: %w", role, name, err)
		}
		ids = append(ids, node.Object.ObjectID)
	}
	return ids, nil
}

// visible returns the visible elements of sel; its error says why there is none.
func visible(ctx context.Context, sel Selector) ([]runtime.RemoteObjectID, error) {
	all, err := find(ctx, sel)
	if err != nil {
		return nil, err
	}
	var seen []runtime.RemoteObjectID
	for _, id := range all {
		ok, err := on[bool](ctx, id, isVisible)
		if err != nil {
			return nil, err
		}
		if ok {
			seen = append(seen, id)
		}
	}
	switch {
	case len(seen) > 0:
		return seen, nil
	case len(all) > 0:
		return nil, fmt.Errorf("%s: %d elements, all %w", sel, len(all), errHidden)
	default:
		return nil, fmt.Errorf("%s: %w", sel, errNone)
	}
}

// one returns the only visible element of sel.
func one(ctx context.Context, sel Selector) (runtime.RemoteObjectID, error) {
	ids, err := visible(ctx, sel)
	if err != nil {
		return "", err
	}
	if len(ids) > 1 {
		return "", fmt.Errorf("%s: %d visible elements; select one", sel, len(ids))
	}
	return ids[0], nil
}

// on calls a function of JavaScript with an element as this.
func on[T any](ctx context.Context, id runtime.RemoteObjectID, function string, args ...string) (out T, err error) {
	params := runtime.CallFunctionOnParams{ObjectID: id, FunctionDeclaration: function, ReturnByValue: yes(), AwaitPromise: yes()}
	for _, a := range args {
		params.Arguments = append(params.Arguments, &runtime.CallArgument{Value: []byte(quote(a))})
	}
	res, err := tried(ctx, runtime.CallFunctionOn, params)
	if err != nil {
		return out, fmt.Errorf("ask an element: %w", err)
	}
	if res.ExceptionDetails != nil {
		return out, fmt.Errorf("ask an element: %s", thrown(res.ExceptionDetails))
	}
	if res.Result == nil || len(res.Result.Value) == 0 {
		return out, nil // undefined
	}
	if err := json.Unmarshal(res.Result.Value, &out); err != nil {
		return out, fmt.Errorf("read the answer of an element: %w", err)
	}
	return out, nil
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string always has a form
	return string(b)
}

func yes() *bool {
	v := true
	return &v
}
