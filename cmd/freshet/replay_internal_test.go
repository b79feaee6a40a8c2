package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/freshet/freshet/admin/api"
)

// The history of replays is read page by page, as far as it was asked for.
func TestReplayListFollowsPages(t *testing.T) {
	const all = 1203
	var asked int
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		first := 0
		if after := r.URL.Query().Get("after"); after != "" {
			n, err := strconv.Atoi(after[1:])
			if err != nil || limit > 500 {
				http.Error(w, "after", http.StatusUnprocessableEntity)
				return
			}
			first = n + 1
		}
		var page struct {
			Items []api.Replay `json:"items"`
		}
		for n := first; n < min(first+limit, all); n++ {
			page.Items = append(page.Items, api.Replay{ID: fmt.Sprintf("r%d", n)})
		}
		_ = json.NewEncoder(w).Encode(page)
	}))
	defer srv.Close()
	for _, tc := range []struct {
		args              []string
		want, first, asks int
	}{
		{nil, 50, 0, 1},
		{[]string{"--limit", "0"}, all, 0, 3},
		{[]string{"--limit", "700", "--after", "r99"}, 700, 100, 2},
		{[]string{"--limit", "500", "--after", "r1199"}, 3, 1200, 1},
	} {
		asked = 0
		out, errOut, code := freshet(t, nil, append([]string{"replay", "list", "--json", "--client-url", srv.URL}, tc.args...)...)
		var got struct{ Items []api.Replay }
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
			t.Fatalf("%v: exit code %d, %v, %s", tc.args, code, err, errOut)
		}
		seen := map[string]bool{}
		for _, r := range got.Items {
			seen[r.ID] = true
		}
		if len(seen) != tc.want || len(got.Items) != tc.want || got.Items[0].ID != fmt.Sprintf("r%d", tc.first) || asked != tc.asks {
			t.Errorf("%v: %d replays of %d ids from %s on, in %d requests; want %+v", tc.args, len(got.Items), len(seen), got.Items[0].ID, asked, tc)
		}
	}
}
