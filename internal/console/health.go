package console

import (
	"strings"

	"github.com/freshet/freshet/admin/api"
)

// Sentence says what a problem means. The API's own sentence is English; other languages have theirs from its code and arguments.
func (p *page) Sentence(of api.Problem) string {
	a := &of.Args
	ago := "–"
	if a.Seconds != nil {
		ago = seconds(*a.Seconds)
	}
	switch {
	case p.Prefs.Language == "en" && of.Code == "stale_records" && of.Sentence != "": // it begins with a name
		return of.Sentence + "."
	case p.Prefs.Language == "en" && of.Sentence != "":
		return strings.ToUpper(of.Sentence[:1]) + of.Sentence[1:] + "."
	}
	switch of.Code {
	case "fresh":
		return p.text("Everything is fresh: the slowest of %d nodes had the newest change %s after its publication.", a.Count, ago)
	case "quiet":
		return p.text("Everything is up to date; no node received a change in the last minutes.")
	case "starting":
		return p.text("The API is starting.") + p.waits(a.Waits)
	case "no_data":
		return p.text("Not everything could be looked at; the log of the admin API has the reason.")
	case "server_away":
		return p.text("%s does not answer.", a.Server)
	case "stale_records":
		return p.text("%s/%s is stale for %s; %d copies in all are.", a.Dataset, a.Key, ago, a.Count)
	case "topic_unreadable":
		return p.text("The topic %s of dataset %s cannot be read.", a.Topic, a.Dataset) + p.waits(a.Waits)
	case "dataset_paused":
		return p.text("Dataset %s is paused by %s: %s. %d records wait.", a.Dataset, a.Who, a.Why, a.Records)
	case "partitions_behind":
		return p.text("%d partitions of %s are %s behind.", a.Count, a.Dataset, ago) + p.waits(a.Waits)
	}
	return p.processSentence(&of, ago)
}

// processSentence is Sentence for what workers and nodes suffer.
func (p *page) processSentence(of *api.Problem, ago string) string {
	a := &of.Args
	switch of.Code {
	case "worker_waits":
		return p.text("Worker %s waits.", a.Worker) + p.waits(a.Waits)
	case "worker_silent":
		return p.text("Worker %s has reported nothing for %s: it is suspended, was killed, or cannot reach MySQL.", a.Worker, ago)
	case "no_workers":
		return p.text("No worker is alive, so nothing is applied.")
	case "nodes_silent":
		return p.text("%d nodes (%s) have reported nothing for %s: suspended, killed, or cut from Redis.", a.Count, a.Node, ago)
	case "nodes_bypass":
		return p.text("%d nodes (%s) bypass their local tier, since nothing proves that every invalidation arrived.", a.Count, a.Node)
	case "nodes_disagree":
		return p.text("%d nodes (%s) do not cache dataset %s: their cache section differs from the workers'.", a.Count, a.Node, a.Dataset)
	case "dead_letters":
		return p.text("%d dead letters are open.", a.Count)
	}
	return of.Sentence
}

// waits is Why as another sentence.
func (p *page) waits(w *api.Wait) string {
	if w == nil {
		return ""
	}
	return " " + p.Why(w)
}

// Why says why something waits.
func (p *page) Why(w *api.Wait) string {
	texts := map[string]string{
		"paused": "paused", "refused": "its table refuses rows", "server": "a server does not answer", "stopped": "stopped until an operator lets it continue",
		"transaction": "an open transaction of another producer comes first", "no_worker": "no worker has it", "silent_worker": "its worker reports nothing",
		"topic": "the topic cannot be read", "busy": "being applied",
	}
	out := p.text(texts[w.Code])
	if w.Server != "" {
		out = p.text("%s does not answer.", w.Server)
	}
	if w.Detail != "" {
		out += " (" + w.Detail + ")"
	}
	return out
}

// Where is the page that shows more of a problem.
func (p *page) Where(of api.Problem) string {
	a := &of.Args
	switch of.Code {
	case "stale_records":
		return link("/record", "dataset", a.Dataset, "key", a.Key)
	case "topic_unreadable", "dataset_paused", "partitions_behind":
		return link("/lag", "dataset", a.Dataset, "behind", "1")
	case "worker_waits", "worker_silent":
		return link("/nodes", "id", a.Worker)
	case "nodes_silent", "nodes_bypass", "nodes_disagree":
		return link("/nodes", "id", a.Node)
	case "no_workers":
		return "/nodes"
	case "dead_letters":
		return "/deadletters"
	}
	return ""
}
