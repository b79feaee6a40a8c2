package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// secretive makes the property n of the rig's dataset sensitive, and adds properties before it.
func secretive(t *testing.T, more string) func(*admin.Config) {
	return func(c *admin.Config) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "items.json"), strings.Replace(itemSchema, `"n":{`, more+`"n":{"x-sensitive":true,`, 1))
		write(t, filepath.Join(dir, "items.yaml"), fmt.Sprintf(itemDataset, c.Datasets.All()[0].Topic))
		set, err := schemas.LoadDatasets(os.DirFS(dir))
		must(t, err)
		c.Datasets = set
	}
}

const hidden, value = `"n":"•••"`, 4711

// In whichever way content is shown, operators do not see sensitive properties, and admins do.
func TestSensitivePropertiesAreMasked(t *testing.T) {
	r := newRig(t, secretive(t, ""))
	_, err := r.producer.Publish(t.Context(), schemas.Event{Dataset: "items", Key: "k", Op: schemas.Upsert, Version: 1, Data: fmt.Appendf(nil, `{"id":"k","n":%d}`, value)})
	must(t, err)
	_, err = r.db.Exec("INSERT INTO items (id, n, _version, _deleted, _at) VALUES ('k', ?, 1, 0, 1)", value)
	must(t, err)
	d := r.datasets.All()[0]
	forms := []string{
		fmt.Sprintf(`{"id":"k","n":%d}`, value), fmt.Sprintf(`{"after":[{"N":%d}]}`, value), fmt.Sprintf("no JSON, %d", value), fmt.Sprintf(`"n is %d"`, value),
		fmt.Sprintf("\xff%d", value), fmt.Sprintf(`{"n":1} {"n":%d}`, value),
	}
	var letters []*replica.Letter
	for off, data := range forms {
		l := r.letter(d, int64(off), "k", 2, `{"id":"k","n":1}`)
		l.Record.Value = []byte(data)
		letters = append(letters, l)
	}
	r.keep(d, 0, letters)
	paths := []string{"/v1/records/items/k?data=true", "/v1/messages?dataset=items&from=start&data=true"}
	var list struct{ Items []struct{ ID string } }
	r.want(http.StatusOK, "viewer", http.MethodGet, "/v1/deadletters", nil).into(t, &list)
	if len(list.Items) != len(forms) {
		t.Fatalf("%d dead letters", len(list.Items))
	}
	for _, l := range list.Items {
		paths = append(paths, "/v1/deadletters/"+url.PathEscape(l.ID)+"?data=true")
	}
	for _, path := range paths {
		for range 2 { // what one role was shown is not what another one is shown a moment later
			r.want(http.StatusForbidden, "viewer", http.MethodGet, path, nil)
			if body := string(r.want(http.StatusOK, "admin", http.MethodGet, path, nil).body); !strings.Contains(body, "4711") && !strings.Contains(body, "/zQ3MTE=") {
				t.Errorf("%s as admin: %s", path, body)
			}
			body := string(r.want(http.StatusOK, "operator", http.MethodGet, path, nil).body)
			if strings.Contains(body, "4711") || strings.Contains(body, "zQ3MTE") || !strings.Contains(body, "•••") {
				t.Errorf("%s as operator: %s", path, body)
			}
		}
	}
	if body := string(r.want(http.StatusOK, "operator", http.MethodGet, paths[0], nil).body); strings.Count(body, hidden) < 2 || !strings.Contains(body, `"id":"k"`) {
		t.Errorf("event and row of a record: %s", body)
	}
}

// What was shown with a mask cannot be stored in its place.
func TestMasksAreNotStored(t *testing.T) {
	r := newRig(t, secretive(t, `"s":{"type":"string","x-sensitive":true},`))
	path := r.addLetters("k")[0]
	edit := func(s string) map[string]any {
		return map[string]any{"data": map[string]any{"id": "k", "s": s}, "why": "a test"}
	}
	if a := r.want(http.StatusUnprocessableEntity, "operator", http.MethodPost, path+"/edit", edit("•••")); !strings.Contains(string(a.body), "sensitive") {
		t.Errorf("an edit: %s", a.body)
	}
	event := `{"specversion":"1.0","id":"1","source":"//x","type":"io.freshet.row.upsert.v1","subject":"items/k","partitionkey":"k","sequence":"7","data":{"id":"k","s":"•••"}}`
	if a := r.want(http.StatusUnprocessableEntity, "publisher", http.MethodPost, "/v1/events", event, "Content-Type", "application/cloudevents+json"); !strings.Contains(string(a.body), "sensitive") {
		t.Errorf("an event: %s", a.body)
	}
}

// Followers of messages see masks too.
func TestFollowedMessagesAreMasked(t *testing.T) {
	r := newRig(t, secretive(t, ""))
	_, err := r.producer.Publish(t.Context(), schemas.Event{Dataset: "items", Key: "k", Op: schemas.Upsert, Version: 1, Data: fmt.Appendf(nil, `{"id":"k","n":%d}`, value)})
	must(t, err)
	for role, want := range map[string]string{"operator": hidden, "admin": `"n":4711`} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.http.URL+"/v1/messages/follow?dataset=items&from=start&data=true", nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+r.tokens[role])
		res, err := http.DefaultTransport.RoundTrip(req)
		must(t, err)
		var got []byte
		buf := make([]byte, 4096)
		for !strings.Contains(string(got), "data: ") || !strings.HasSuffix(string(got), "\n\n") {
			n, err := res.Body.Read(buf)
			must(t, err)
			got = append(got, buf[:n]...)
		}
		must(t, res.Body.Close())
		if !strings.Contains(string(got), want) {
			t.Errorf("%s: %s", role, got)
		}
	}
}
