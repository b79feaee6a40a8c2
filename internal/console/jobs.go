package console

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
)

func jobsScreen() *screen {
	return &screen{path: "/jobs", name: "jobs", title: "Jobs", nav: true, least: access.Viewer, every: 2 * time.Second, load: loadJobs}
}

func newJobScreen() *screen {
	return &screen{path: "/jobs/new", name: "newjob", title: "New job", least: access.Operator, load: loadNewJob, act: actNewJob}
}

func jobScreen() *screen {
	return &screen{path: "/job", name: "job", title: "Job", least: access.Viewer, every: time.Second, load: loadJob, act: actJob}
}

// jobsPage lists replays, redrives and rebuilds.
type jobsPage struct {
	Jobs []api.Replay
	Next string
}

func loadJobs(v *visit) (any, error) {
	var found struct {
		Items []api.Replay
		Next  string
	}
	err := v.get("/v1/replays", &found, "after", v.param("after"), "limit", "50")
	return jobsPage{found.Items, found.Next}, err
}

// Export lists the jobs.
func (p jobsPage) Export() (items any, header []string, rows [][]string) {
	for i := range p.Jobs {
		j := &p.Jobs[i]
		rows = append(rows, []string{
			j.ID, j.State, j.Spec.Dataset, j.Spec.Action, strconv.FormatBool(j.Spec.DryRun), j.Actor, j.Spec.Reason, j.Created.UTC().Format(time.RFC3339),
			strconv.FormatInt(j.Total.Events, 10), strconv.FormatInt(j.Total.Applied, 10), strconv.FormatInt(j.Total.Stale, 10), strconv.FormatInt(j.Total.Invalid, 10),
		})
	}
	return p.Jobs, []string{"id", "state", "dataset", "action", "dry_run", "actor", "reason", "created", "events", "applied", "stale", "invalid"}, rows
}

// newJobPage is the wizard: what to do, then which events, then the dry run.
type newJobPage struct {
	Datasets []api.DatasetState
	Step     int
	Actions  []fact
	// Ranged: the action takes a range and filters of events; Redrive: it takes filters of dead letters.
	Ranged, Redrive bool
}

func loadNewJob(v *visit) (any, error) {
	sets, err := v.datasets()
	p := newJobPage{Datasets: sets, Step: min(max(v.number("step", 1), 1), 2), Actions: []fact{
		{"apply+invalidate", v.text("Apply past events again, and make cached copies stale")},
		{"apply", v.text("Apply past events again to the replica")},
		{"invalidate", v.text("Only make cached copies stale")},
		{"redrive", v.text("Redrive dead letters")},
		{"rebuild", v.text("Rebuild the table from the whole topic")},
	}}
	action := v.param("action")
	p.Redrive, p.Ranged = action == "redrive", action != "redrive" && action != "rebuild"
	if p.Step == 2 && v.param("dataset") == "" {
		p.Step = 1
	}
	return p, err
}

// jobFields are what a form or an address says of a job.
func jobFields() []string {
	return []string{"dataset", "action", "from", "until", "partitions", "keys", "prefix", "op", "type", "letter_reason", "errno", "drop_old", "accept_loss"}
}

// jobRequest is the job that a form means.
func jobRequest(v *visit, dry bool) (map[string]any, error) {
	b := map[string]any{"dry_run": dry, "reason": v.field("reason")}
	for _, name := range jobFields() {
		value := v.field(name)
		if value == "" {
			continue
		}
		switch name {
		case "partitions":
			numbers, err := partitions(value)
			if err != nil {
				return nil, &APIError{Status: http.StatusUnprocessableEntity, Detail: v.text("Partitions are numbers separated by commas.")}
			}
			b[name] = numbers
		case "keys":
			b[name] = strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == '\r' })
		case "drop_old", "accept_loss":
			b[name] = true
		case "errno":
			n, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return nil, &APIError{Status: http.StatusUnprocessableEntity, Detail: v.text("The error number is a number.")}
			}
			b[name] = n
		default:
			b[name] = value
		}
	}
	for _, name := range []string{"rate", "invalidation_rate"} {
		if n, err := strconv.Atoi(v.field(name)); err == nil {
			b[name] = n
		}
	}
	return b, nil
}

func partitions(text string) ([]int32, error) {
	var out []int32
	for one := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(one), 10, 32)
		if err != nil {
			return nil, err
		}
		out = append(out, int32(n))
	}
	return out, nil
}

// actNewJob starts a dry run, which is a job too; its page offers to start it in earnest.
func actNewJob(v *visit) (*outcome, error) {
	dry := v.field("do") == "dry-run"
	if !dry && v.field("do") != "start" {
		return nil, v.unknown()
	}
	if !dry {
		if typed := v.field("dataset"); v.field("typed") != typed {
			return nil, &APIError{Status: http.StatusUnprocessableEntity, Detail: v.text("Nothing was done: type %s to confirm.", typed)}
		}
	}
	b, err := jobRequest(v, dry)
	if err != nil {
		return nil, err
	}
	var started api.Replay
	if err := v.post("/v1/replays", b, &started); err != nil {
		return nil, err
	}
	return &outcome{to: link("/job", "id", started.ID, "done", "started")}, nil
}

// jobPage is one job.
type jobPage struct {
	api.Replay

	Over    bool
	Done    float64 // 0 to 1
	Rate    float64
	ETA     float64 // -1: not known
	Samples []sample
	// Query repeats the choice: in the wizard, and in the form that starts a dry run in earnest.
	Query []fact
	// Again is the wizard's address with this choice.
	Again string
}

type sample struct {
	api.JobSample

	Partition int32
}

func loadJob(v *visit) (any, error) {
	p := &jobPage{ETA: -1}
	if err := v.get("/v1/replays/"+seg(v.param("id")), &p.Replay); err != nil {
		return nil, err
	}
	p.Over = p.State == "done" || p.State == "failed" || p.State == "cancelled"
	var all, passed int64
	for _, part := range p.Parts {
		all += part.End - part.From
		passed += part.Next - part.From
		p.Rate += part.Rate
		if part.ETA != nil {
			p.ETA = max(p.ETA, *part.ETA)
		}
		for _, s := range part.Samples {
			p.Samples = append(p.Samples, sample{s, part.Partition})
		}
	}
	if p.Done = 1; all > 0 {
		p.Done = float64(passed) / float64(all)
	}
	slices.SortStableFunc(p.Samples, func(a, b sample) int { return cmp.Compare(a.Outcome, b.Outcome) })
	p.Query = choiceOf(&p.Spec)
	pairs := []string{}
	for _, f := range p.Query {
		pairs = append(pairs, f.Name, f.Value)
	}
	p.Again = link("/jobs/new", pairs...)
	return p, nil
}

// choiceOf is a job's choice as the form's fields.
func choiceOf(s *api.JobSpec) []fact {
	var numbers []string
	for _, n := range s.Partitions {
		numbers = append(numbers, strconv.Itoa(int(n)))
	}
	all := []fact{
		{"dataset", s.Dataset},
		{"action", s.Action},
		{"from", s.From},
		{"until", s.Until},
		{"partitions", strings.Join(numbers, ",")},
		{"keys", strings.Join(s.Keys, "\n")},
		{"prefix", s.Prefix},
		{"op", s.Op},
		{"type", s.Type},
		{"letter_reason", s.LetterReason},
	}
	if s.Errno != 0 {
		all = append(all, fact{"errno", strconv.Itoa(int(s.Errno))})
	}
	if s.DropOld {
		all = append(all, fact{"drop_old", "1"})
	}
	if s.AcceptLoss {
		all = append(all, fact{"accept_loss", "1"})
	}
	if s.Action == "redrive" || s.Action == "rebuild" { // they take no range
		all = slices.DeleteFunc(all, func(f fact) bool { return f.Name == "from" || f.Name == "until" })
	}
	return slices.DeleteFunc(all, func(f fact) bool { return f.Value == "" })
}

func actJob(v *visit) (*outcome, error) {
	id, do := v.field("id"), v.field("do")
	path, here := "/v1/replays/"+seg(id), link("/job", "id", id, "done", "changed")
	switch do {
	case "pause", "resume", "cancel":
		return &outcome{to: here}, v.post(path+"/"+do, map[string]string{"reason": v.field("reason")}, nil)
	case "limits":
		b := map[string]int{}
		for _, name := range []string{"rate", "invalidation_rate"} {
			if n, err := strconv.Atoi(v.field(name)); err == nil {
				b[name] = n
			}
		}
		return &outcome{to: here}, v.post(path+"/limits", b, nil)
	}
	return nil, v.unknown()
}
