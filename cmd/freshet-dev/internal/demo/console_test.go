package demo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/cmd/freshet-dev/internal/demo"
	"github.com/freshet/freshet/cmd/freshet-dev/internal/devstack"
	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// ask makes a request of the console or its API and returns the answer's body.
func ask(ctx context.Context, method, url, accept, body string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", accept)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	_, err = io.Copy(&text, resp.Body)
	if resp.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s: %d %s", url, resp.StatusCode, text.String())
	}
	return text.String(), errors.Join(err, resp.Body.Close())
}

// The console of the demo finds a copy that was planted behind Freshet's back, and an invalidation repairs it. A record's replay, which runs in
// the demo's worker, ends.
func TestConsoleFindsAPlantedCopy(t *testing.T) {
	stack, err := devstack.Start(t.Context(), devstack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	cfg := demo.Config{Datasets: datasets, Folder: shop.Datasets(), Seed: 1, Records: 20, Rate: 20, Reads: 20, Stale: true}
	rig, err := demo.Open(t.Context(), stack, cfg)
	if err != nil {
		t.Fatal(err)
	}
	page, err := demo.OpenConsole(t.Context(), stack, rig, cfg, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- rig.Shop.Run(ctx) }()
	t.Cleanup(func() {
		if err := page.Close(); err != nil {
			t.Errorf("close console: %v", err)
		}
		cancel()
		if err := errors.Join(testenv.Await(t, done), rig.Close(), stack.Close()); err != nil {
			t.Error(err)
		}
	})
	const wait = 90 * time.Second
	var old report.Stale
	testenv.Eventually(t, wait, func(ctx context.Context) error {
		var found report.Stats
		if err := askJSON(ctx, http.MethodGet, page.URL()+"v1/consistency", "", &found); err != nil {
			return err
		}
		if len(found.Stale) == 0 {
			return errors.New("no stale copy was found")
		}
		old = found.Stale[0]
		return nil
	})
	if old.Dataset != "users" || old.Key != "21" || old.Version != 1 {
		t.Fatalf("found %+v, planted version 1 of users 21", old)
	}
	for _, path := range []string{"", "consistency", "record?dataset=users&key=21", "lag", "messages?dataset=users", "nodes", "jobs", "datasets", "audit"} {
		text, err := ask(t.Context(), http.MethodGet, page.URL()+path, "text/html", "")
		if err != nil {
			t.Error(err)
		}
		if path == "consistency" && !strings.Contains(text, "/record?dataset=users&amp;key=21") {
			t.Error("the page of alarms does not lead to the record")
		}
	}
	var check api.SchemaCheck
	proposed := `{"schema":"{\"type\":\"object\",\"required\":[\"id\"],\"properties\":{\"id\":{\"type\":\"integer\"}}}"}`
	if err := askJSON(t.Context(), http.MethodPost, page.URL()+"v1/datasets/users/check", proposed, &check); err != nil || check.Compatible || len(check.Findings) == 0 {
		t.Errorf("a schema without most properties: %+v, %v; it is not compatible", check, err)
	}
	record := page.URL() + "v1/records/users/21"
	if _, err := ask(t.Context(), http.MethodPost, record+"/invalidate", "application/json", `{"reason":"a test"}`); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, wait, func(ctx context.Context) error {
		var r api.Record
		err := askJSON(ctx, http.MethodGet, record, "", &r)
		if err == nil && !r.Fresh {
			err = errors.New(r.Verdict)
		}
		return err
	})
	var job api.Replay
	if err := askJSON(t.Context(), http.MethodPost, record+"/replay", `{"reason":"a test"}`, &job); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, wait, func(ctx context.Context) error {
		err := askJSON(ctx, http.MethodGet, page.URL()+"v1/replays/"+job.ID, "", &job)
		if err == nil && job.State != "done" {
			err = errors.New("the replay is " + job.State)
		}
		return err
	})
}

func askJSON(ctx context.Context, method, url, body string, out any) error {
	text, err := ask(ctx, method, url, "application/json", body)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}
