package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/browser"
	"github.com/freshet/freshet/internal/testenv"
)

// consoleScreen is one screen with what must be on it.
type consoleScreen struct {
	name, path string
	shows      []browser.Selector
	least      string // the role that it needs; "": viewer
}

// screens are all screens, with the data that the console started with.
func (c *console) screens() []consoleScreen {
	return []consoleScreen{
		{"overview", "/", []browser.Selector{"#health", "#freshness", "#path", "#counts", "#charts svg"}, ""},
		{"record", "/record?dataset=products&key=lamp-01", []browser.Selector{"#verdict.ok", "#tier-kafka", "#tier-row", "#tier-shared", "#copies tbody tr", ".timeline li"}, ""},
		{"lag", "/lag", []browser.Selector{"#d-products", "#d-orders", "#partitions tbody tr"}, ""},
		{"messages", "/messages?dataset=products", []browser.Selector{"#messages tbody tr"}, ""},
		{"deadletters", "/deadletters", []browser.Selector{"#groups tbody tr", "#letters tbody tr"}, ""},
		{"deadletter", "/deadletter?id=" + c.letter("sofa-1"), []browser.Selector{browser.Words("sofa-1")}, ""},
		{"jobs", "/jobs", []browser.Selector{"#jobs tbody tr"}, ""},
		{"job", "/job?id=" + c.job, []browser.Selector{"#totals", "#parts tbody tr"}, ""},
		{"job-wizard", "/jobs/new", []browser.Selector{"#wizard"}, "operator"},
		{"job-wizard-2", "/jobs/new?step=2&dataset=orders&action=apply%2Binvalidate&from=start&until=end", []browser.Selector{"#wizard"}, "operator"},
		{"nodes", "/nodes", []browser.Selector{"#nodes tbody tr", "#workers tbody tr"}, ""},
		{"node", "/nodes?id=shop-1", []browser.Selector{"#node"}, ""},
		{"datasets", "/datasets", []browser.Selector{"#datasets tbody tr"}, ""},
		{"dataset", "/dataset?name=products", []browser.Selector{"#properties tbody tr"}, ""},
		{"consistency", "/consistency", []browser.Selector{"#windows tbody tr"}, ""},
		{"audit", "/audit", []browser.Selector{"#audit tbody tr"}, "operator"},
		{"doctor", "/doctor", []browser.Selector{browser.Role("button", "Run the doctor")}, "operator"},
		{"about", "/about", []browser.Selector{"#main dl"}, ""},
		{"find", "/find?q=lamp-01", []browser.Selector{"#main a"}, ""},
	}
}

// shotsVar is the folder that TestConsoleShots writes its pictures to; make console-shots sets it.
const shotsVar = "FRESHET_TEST_CONSOLE_SHOTS"

// trafficTime is how long the shop is busy before its pictures are taken, so that rates and charts have something to show.
const trafficTime = 45 * time.Second

// TestConsoleShots writes a picture of each screen, in both themes, at the widths of a desk and of a telephone.
func TestConsoleShots(t *testing.T) {
	dir := os.Getenv(shotsVar)
	if dir == "" {
		t.Skip("make console-shots DIR=... runs it")
	}
	testenv.Chromium(t)
	topics := map[string]string{}
	for _, dataset := range []string{"products", "users", "orders"} {
		topics[dataset] = "shop." + dataset
		testenv.Kafka(t).CreateTopicNamed(t, topics[dataset], 4)
	}
	c := newConsole(t, topics)
	c.busy()
	p := c.page(t, "admin")
	signedOut := browser.New(t)
	signedOut.Open(c.url + "/sign-in")
	screens := append(c.screens(), consoleScreen{name: "sign-in", path: "/sign-in"})
	written := 0
	for _, width := range []int{1280, 380} {
		for _, theme := range []string{browser.Light, browser.Dark} {
			for _, s := range screens {
				page := p
				if s.name == "sign-in" {
					page = signedOut
				}
				page.Viewport(width, 900)
				page.Theme(theme)
				page.Open(c.url + s.path)
				for _, sel := range s.shows {
					page.Await(sel)
				}
				page.Screenshot(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", s.name, theme, width)))
				written++
			}
		}
	}
	t.Logf("%d pictures are in %s", written, dir)
}

// busy publishes and reads until the test ends, and returns after trafficTime.
func (c *console) busy() {
	c.t.Helper()
	var wait sync.WaitGroup
	stop := make(chan struct{})
	c.t.Cleanup(func() {
		close(stop)
		wait.Wait()
	})
	tick := time.NewTicker(50 * time.Millisecond)
	began, up := time.Now(), make(chan struct{})
	wait.Go(func() {
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			dataset := []string{"products", "products", "orders", "users"}[i%4]
			keys := shopKeys(dataset)
			if _, err := c.pub.Publish(c.t.Context(), shopEvent(dataset, keys[i%len(keys)], c.version.Add(1), i)); err != nil {
				return // the test ends
			}
			for n, caches := range c.caches {
				for j := range 10 {
					_, _ = caches[dataset].Get(c.t.Context(), keys[(i*7+n+j)%len(keys)])
				}
			}
			if up != nil && time.Since(began) > trafficTime {
				close(up)
				up = nil
			}
		}
	})
	testenv.Await(c.t, up)
}
