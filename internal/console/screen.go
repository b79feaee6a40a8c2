package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/console/session"
)

// screen is one page: what is at a path.
type screen struct {
	// path is a pattern of http.ServeMux without a method. The name is that of its template in web/pages.
	path, name string
	// title is its English title; nav: it is in the navigation.
	title string
	nav   bool
	// least is the role that may see it.
	least access.Role
	// every is how often a live page is loaded again; 0: it is not live.
	every time.Duration
	// load returns what the template shows; nil: the path only takes forms.
	load func(*visit) (any, error)
	// act carries out a form that was sent to the path; nil: there is none.
	act func(*visit) (*outcome, error)
}

// outcome is what follows a form: either another address or a page.
type outcome struct {
	// to is a path of the console with its query, as path returns it.
	to string
	// name and data are a template and what it shows, with a status; 0 is 200.
	name   string
	data   any
	status int
}

// screens are all pages, in the order of the navigation.
func screens() []*screen {
	return []*screen{
		overviewScreen(),
		recordScreen(),
		lagScreen(),
		messagesScreen(),
		lettersScreen(),
		letterScreen(),
		jobsScreen(),
		newJobScreen(),
		jobScreen(),
		nodesScreen(),
		datasetsScreen(),
		datasetScreen(),
		consistencyScreen(),
		auditScreen(),
		doctorScreen(),
		aboutScreen(),
		findScreen(),
	}
}

// visit is one person's request of one screen.
type visit struct {
	*http.Request

	who    *session.Session
	prefs  preferences
	client client
	// wrong is why a confirmation does not count.
	wrong string
	// text returns a text in the person's language.
	text func(key string, args ...any) string
}

// get reads an answer of the API into out. pairs are names and values of its query; those without a value are left out.
func (v *visit) get(path string, out any, pairs ...string) error {
	return v.client.get(v.Context(), path, query(pairs...), out)
}

// post sends a request to the API and reads its answer into out, unless that is nil.
func (v *visit) post(path string, body, out any) error {
	return v.client.post(v.Context(), path, body, out)
}

// may reports whether the person's role is enough.
func (v *visit) may(least access.Role) bool { return v.who.Role.May(least) }

// param is a value of the address.
func (v *visit) param(name string) string { return v.URL.Query().Get(name) }

// number is a whole number of the address; otherwise where there is none.
func (v *visit) number(name string, otherwise int) int {
	n, err := strconv.Atoi(v.param(name))
	if err != nil {
		return otherwise
	}
	return n
}

// query returns a query of names and values in turn. Those without a value are left out.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Add(pairs[i], pairs[i+1])
		}
	}
	return q
}

// link returns the address of a screen of the console, without the base path.
func link(path string, pairs ...string) string {
	if q := query(pairs...); len(q) > 0 {
		return path + "?" + q.Encode()
	}
	return path
}

// withDone is a path of the console with the name of what a form did, in place of what the form before it did.
func withDone(back, what string) string {
	at, err := url.Parse(local(back))
	if err != nil {
		return link("/", "done", what)
	}
	q := at.Query()
	q.Set("done", what)
	at.RawQuery = q.Encode()
	return at.RequestURI()
}

// sep is what joins another value to an address.
func sep(path string) string {
	if strings.Contains(path, "?") {
		return "&"
	}
	return "?"
}
