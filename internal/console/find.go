package console

import (
	"strings"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

// mostFound bounds how many places of each kind are offered.
const mostFound = 8

func findScreen() *screen {
	return &screen{path: "/find", name: "find", title: "Find", least: access.Viewer, load: loadFind}
}

// place is somewhere to go.
type place struct{ Kind, Text, Path string }

// findPage lists places that a few words may mean.
type findPage struct{ Places []place }

func loadFind(v *visit) (any, error) {
	words := strings.TrimSpace(v.param("q"))
	low := strings.ToLower(words)
	sets, err := v.datasets()
	if err != nil {
		return nil, err
	}
	p := findPage{}
	add := func(kind, text, path string) { p.Places = append(p.Places, place{v.text(kind), text, path}) }
	dataset, key, _ := strings.Cut(words, "/")
	if key == "" {
		dataset, key, _ = strings.Cut(words, " ")
	}
	for _, d := range sets {
		switch {
		case key != "" && d.Name == dataset:
			add("Record", d.Name+" "+strings.TrimSpace(key), link("/record", "dataset", d.Name, "key", strings.TrimSpace(key)))
		case strings.Contains(strings.ToLower(d.Name), low):
			add("Dataset", d.Name, link("/dataset", "name", d.Name))
		}
	}
	for _, s := range screens() {
		if s.nav && v.may(s.least) && strings.Contains(strings.ToLower(v.text(s.title)), low) {
			add("Screen", v.text(s.title), s.path)
		}
	}
	if low == "" {
		return p, nil
	}
	if err := findProcesses(v, low, add); err != nil {
		return nil, err
	}
	if key == "" {
		for _, d := range sets {
			add("Record", d.Name+" "+words, link("/record", "dataset", d.Name, "key", words))
		}
	}
	return p, nil
}

// findProcesses adds nodes, workers and jobs.
func findProcesses(v *visit, low string, add func(kind, text, path string)) error {
	var members struct {
		Nodes   []api.Node
		Workers []api.WorkerState
	}
	if err := v.get("/v1/nodes", &members); err != nil {
		return err
	}
	n := 0
	for _, one := range members.Nodes {
		if n < mostFound && strings.Contains(strings.ToLower(one.ID+" "+one.Host), low) {
			n++
			add("Node", one.ID, link("/nodes", "id", one.ID))
		}
	}
	for _, one := range members.Workers {
		if strings.Contains(strings.ToLower(one.Owner), low) {
			add("Worker", one.Owner, link("/nodes", "id", one.Owner))
		}
	}
	var jobs struct{ Items []api.Replay }
	if err := v.get("/v1/replays", &jobs, "limit", "100"); err != nil {
		return err
	}
	n = 0
	for i := range jobs.Items {
		j := &jobs.Items[i]
		if n < mostFound && strings.Contains(strings.ToLower(j.ID+" "+j.Spec.Dataset+" "+j.Spec.Reason), low) {
			n++
			add("Job", j.Spec.Action+" "+j.Spec.Dataset+": "+j.Spec.Reason, link("/job", "id", j.ID))
		}
	}
	return nil
}
