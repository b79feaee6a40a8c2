package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// Kind is a sort of problem that a page can have.
type Kind string

// The kinds of problems.
const (
	// Console is an error that the page or Chromium wrote to the console.
	Console Kind = "console error"
	// Exception is an exception or a rejected promise that no code caught.
	Exception Kind = "uncaught exception"
	// Request is a request that failed, that was answered with a status from 400 on, or whose style sheet is of another type.
	Request Kind = "failed request"
	// Policy is a violation of the content security policy.
	Policy Kind = "violation of the content security policy"
)

// problem is one thing that went wrong.
type problem struct {
	kind Kind
	text string
}

// expectation is a problem that the test wants to see.
type expectation struct {
	problem
	met bool
}

// problems collects what goes wrong in a page. Chromium's events arrive on another goroutine.
type problems struct {
	mu       sync.Mutex
	urls     map[string]string   // of requests by id; a failure has no address
	waiting  map[string]struct{} // ids of requests of this document that have no answer yet
	seen     []problem
	expected []*expectation
}

// Expect says that a problem of this kind, whose text contains part, belongs to the test: it is no error, and the test fails
// when it does not happen.
func (p *Page) Expect(kind Kind, part string) {
	p.problems.mu.Lock()
	defer p.problems.mu.Unlock()
	p.problems.expected = append(p.problems.expected, &expectation{problem: problem{kind: kind, text: part}})
}

// report fails the test for each problem that was not expected, and for each expected one that did not happen.
func (p *Page) report() {
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Second)
	defer cancel()
	// What takes longer, such as a poll that the server holds, is not waited for.
	_ = until(ctx, func(context.Context) error { return p.problems.settled() })
	// The answer comes after the events of all that the page did before.
	if _, err := evaluate[bool](p.ctx, "new Promise(done => requestIdleCallback(() => done(true), {timeout: 200}))"); err != nil {
		p.t.Errorf("browser: ask the page whether it is well: %v", err)
	}
	unexpected, missing := p.problems.judge()
	for _, one := range unexpected {
		p.t.Errorf("browser: %s: %s", one.kind, one.text)
	}
	for _, one := range missing {
		p.t.Errorf("browser: the test expects a %s with %q, and there was none", one.kind, one.text)
	}
}

// settled returns nil when every request has an answer, which may be a problem.
func (ps *problems) settled() error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if len(ps.waiting) > 0 {
		return fmt.Errorf("%d requests have no answer", len(ps.waiting))
	}
	return nil
}

func (ps *problems) judge() (unexpected, missing []problem) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, one := range ps.seen {
		known := false
		for _, e := range ps.expected {
			if e.kind == one.kind && strings.Contains(one.text, e.text) {
				e.met, known = true, true
			}
		}
		if !known && !slices.Contains(unexpected, one) {
			unexpected = append(unexpected, one)
		}
	}
	for _, e := range ps.expected {
		if !e.met {
			missing = append(missing, e.problem)
		}
	}
	return unexpected, missing
}

// note is called for each event of the page. It must not run commands.
func (ps *problems) note(event any) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeAssert {
			ps.add(Console, arguments(e.Args))
		}
	case *runtime.EventExceptionThrown:
		ps.add(Exception, thrown(e.ExceptionDetails))
	case *log.EventEntryAdded:
		ps.logged(e.Entry)
	case *audits.EventIssueAdded:
		ps.issue(e.Issue)
	case *network.EventRequestWillBeSent:
		ps.urls[string(e.RequestID)] = e.Request.Method + " " + e.Request.URL
		ps.waiting[string(e.RequestID)] = struct{}{}
	case *page.EventFrameNavigated:
		if e.Frame.ParentID == "" {
			clear(ps.waiting) // those of the document before this one get no answer
		}
	case *network.EventResponseReceived:
		delete(ps.waiting, string(e.RequestID))
		switch r := e.Response; {
		case r.Status >= 400:
			ps.add(Request, fmt.Sprintf("%s: %d %s", ps.urls[string(e.RequestID)], r.Status, r.StatusText))
		case e.Type == network.ResourceTypeStylesheet && r.MimeType != "text/css": // Chromium does not use it, and does not report it
			ps.add(Request, fmt.Sprintf("%s: a style sheet of the type %s", ps.urls[string(e.RequestID)], r.MimeType))
		}
	case *network.EventLoadingFinished:
		delete(ps.waiting, string(e.RequestID))
	case *network.EventLoadingFailed:
		delete(ps.waiting, string(e.RequestID))
		// A request is canceled when the page that sent it is left, and by its own script.
		if !e.Canceled {
			ps.add(Request, strings.TrimSpace(fmt.Sprintf("%s: %s %s", ps.urls[string(e.RequestID)], e.ErrorText, e.BlockedReason)))
		}
	}
}

func (ps *problems) add(kind Kind, text string) {
	ps.seen = append(ps.seen, problem{kind: kind, text: text})
}

// logged notes what Chromium itself wrote to the console. Failed requests are there as well, with less to read than their
// own events have.
func (ps *problems) logged(e *log.Entry) {
	switch {
	case e == nil || e.Level != log.EntryLevelError || strings.HasPrefix(e.Text, "Failed to load resource"):
	case e.Source == log.EntrySourceSecurity:
		ps.add(Policy, e.Text)
	default:
		ps.add(Console, strings.TrimSpace(e.Text+" "+e.URL))
	}
}

func (ps *problems) issue(i *audits.InspectorIssue) {
	if i == nil || i.Details == nil || i.Details.ContentSecurityPolicyIssueDetails == nil {
		return
	}
	d := i.Details.ContentSecurityPolicyIssueDetails
	text := d.ViolatedDirective + " forbids " + string(d.ContentSecurityPolicyViolationType)
	if d.BlockedURL != "" {
		text += " " + d.BlockedURL
	}
	if at := d.SourceCodeLocation; at != nil && at.URL != "" {
		text += fmt.Sprintf(" at %s:%d", at.URL, at.LineNumber)
	}
	ps.add(Policy, text)
}

// arguments is the text of what was given to console.error.
func arguments(args []*runtime.RemoteObject) string {
	var texts []string
	for _, a := range args {
		switch {
		case a.Description != "":
			texts = append(texts, a.Description)
		case len(a.Value) > 0:
			var s string
			if json.Unmarshal(a.Value, &s) != nil {
				s = string(a.Value) // a number
			}
			texts = append(texts, s)
		default:
			texts = append(texts, string(a.Type))
		}
	}
	return strings.Join(texts, " ")
}

func thrown(d *runtime.ExceptionDetails) string {
	if d == nil {
		return "without details"
	}
	text := d.Text
	if d.Exception != nil {
		text += " " + arguments([]*runtime.RemoteObject{d.Exception})
	}
	if d.URL != "" {
		text += fmt.Sprintf(" at %s:%d", d.URL, d.LineNumber+1)
	}
	return text
}
