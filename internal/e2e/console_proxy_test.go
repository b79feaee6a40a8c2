package e2e_test

import (
	"context"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/browser"
	"github.com/freshet/freshet/internal/testenv"
)

// Behind a proxy that knows who asks, and shows the console under a path, no one signs in, and every address has that path. The proxy may
// pass the path on, or remove it.
func (c *console) worksBehindProxy(t *testing.T) {
	c.env = append(c.env, "FRESHET_ADMIN__BASE_PATH=/freshet")
	admin := listening(t, testenv.StartProcess(t, "admin behind a proxy", c.command(context.WithoutCancel(t.Context()), "admin", "--admin-listen", "127.0.0.1:0")))
	serves(t, admin)
	target, err := url.Parse(admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, removes := range []bool{false, true} {
		proxy := httptest.NewServer(&httputil.ReverseProxy{
			FlushInterval: -1,
			Rewrite: func(r *httputil.ProxyRequest) {
				if removes {
					r.Out.URL.Path = strings.TrimPrefix(r.Out.URL.Path, "/freshet")
				}
				r.SetURL(target)
				r.Out.Host = r.In.Host
				r.Out.Header.Set("Authorization", "Bearer "+c.tokens["operator"])
			},
		})
		t.Cleanup(proxy.Close)
		p := browser.New(t)
		for _, s := range c.screens() {
			p.Open(proxy.URL + "/freshet" + s.path)
			for _, sel := range s.shows {
				p.Await(sel)
			}
		}
		p.Click(browser.Role("link", "Lag"))
		p.Click("#d-users button[value=pause]")
		reason(p, "behind a proxy")
		p.Click(browser.Role("button", "Pause"))
		p.Await(browser.Words("The dataset is paused. Workers stop with it within a few seconds."))
		if got := p.URL(); !strings.HasPrefix(got, proxy.URL+"/freshet/lag") {
			t.Errorf("after a form the page is %s", got)
		}
		p.Click("#d-users button[value=resume]")
		reason(p, "behind a proxy")
		p.Click(browser.Role("button", "Resume"))
		p.Await(browser.Words("The dataset continues."))
		p.Press("Control+k")
		p.Type("shop-1")
		p.Await(browser.Words("shop-1"))
		p.Press("Enter")
		p.Await("#node")
		if n := c.number1("SELECT COUNT(*) FROM freshet_audit WHERE actor = 'operator' AND detail LIKE '%behind a proxy%' AND outcome = 200"); n == 0 {
			t.Error("the audit log does not know who paused")
		}
		for _, k := range p.Cookies() {
			if k.Path != "/freshet/" {
				t.Errorf("the cookie %s is for %s", k.Name, k.Path)
			}
		}
	}
}
