package pulse

import (
	"fmt"
	"strconv"
	"time"

	"github.com/freshet/freshet/admin/api"
)

// sentence says in English what p means.
func sentence(p *api.Problem) string {
	a := &p.Args
	switch p.Code {
	case codeFresh:
		return fmt.Sprintf("Everything is fresh: the slowest of %s had the newest change %s after its publication", count(a.Count, "node", "nodes"), ago(a.Seconds))
	case codeQuiet:
		return "Everything is up to date; no node received a change in the last minutes"
	case codeStarting:
		s := "the API is starting"
		if a.Waits != nil {
			s += ": it " + waits(a.Waits)
		}
		return s
	case codeNoData:
		return "not everything could be looked at; the log of the admin API has the reason at level debug"
	case codeServer:
		return a.Server + " does not answer"
	case codeStale:
		return staleSentence(a)
	case codeTopic:
		return "topic " + a.Topic + " of dataset " + a.Dataset + " cannot be read: " + a.Waits.Detail
	case codePaused:
		return pausedSentence(a)
	case codeBehind:
		return behindSentence(a)
	case codeWaits:
		return "worker " + a.Worker + " " + waits(a.Waits)
	case codeSilent:
		return fmt.Sprintf("worker %s has reported nothing for %s: it is suspended, was killed, or cannot reach MySQL", a.Worker, ago(a.Seconds))
	case codeNoWorkers:
		return "no worker is alive, so nothing is applied; start `freshet worker`"
	default:
		return countSentence(p.Code, a)
	}
}

func countSentence(code string, a *api.ProblemArgs) string {
	switch code {
	case codeNodes:
		return fmt.Sprintf("%s reported nothing for %s: suspended, killed, or cut from Redis", which(a, "has", "have"), ago(a.Seconds))
	case codeBypass:
		return which(a, "bypasses its", "bypass their") + " local tier, since nothing proves that every invalidation arrived"
	case codeDisagree:
		return fmt.Sprintf("%s not cache dataset %s: the cache section differs from the workers'", which(a, "does", "do"), a.Dataset)
	case codeLetters:
		return count(a.Count, "dead letter is open", "dead letters are open")
	}
	return code
}

func staleSentence(a *api.ProblemArgs) string {
	where := "the shared tier"
	if a.Node != "" {
		where = "node " + a.Node
	}
	s := fmt.Sprintf("%s/%s is stale in %s for %s", a.Dataset, a.Key, where, ago(a.Seconds))
	if a.Count > 1 {
		s += ", and " + count(a.Count-1, "other copy", "other copies")
	}
	return s
}

func pausedSentence(a *api.ProblemArgs) string {
	s := "dataset " + a.Dataset + " is paused"
	if a.Who != "" {
		s += " by " + a.Who
	}
	s += ": " + a.Why
	if a.Records > 0 {
		s += fmt.Sprintf("; %s, the oldest for %s", count(a.Records, "record waits", "records wait"), ago(a.Seconds))
	}
	return s
}

func behindSentence(a *api.ProblemArgs) string {
	s := count(a.Count, "partition", "partitions") + " of " + a.Dataset
	switch {
	case seconds(*a.Seconds) >= time.Second && a.Count == 1:
		s += " is " + ago(a.Seconds) + " behind"
	case seconds(*a.Seconds) >= time.Second:
		s += " are " + ago(a.Seconds) + " behind"
	case a.Count == 1:
		s += " waits"
	default:
		s += " wait"
	}
	switch w := a.Waits; w.Code {
	case waitStopped:
		return fmt.Sprintf("partition %d of %s is stopped%s", a.Partitions[0], a.Dataset, because(w.Detail))
	case waitRefused:
		return s + ": the table refuses rows, " + w.Detail
	case waitServer:
		return s + ": worker " + a.Worker + " " + waits(w)
	case waitTransaction:
		return s + ": an open transaction of another producer comes first"
	case waitNoWorker:
		return s + ": no worker has " + map[bool]string{true: "it", false: "them"}[a.Count == 1]
	case waitSilent:
		return s + ": worker " + a.Worker + " reports nothing"
	default:
		return s + ": worker " + a.Worker + " is applying " + count(a.Records, "record", "records")
	}
}

// waits is what a worker that waits for a server does.
func waits(w *api.Wait) string {
	if w.Server == "" {
		return "waits for " + w.Detail
	}
	return "waits for " + w.Server + because(w.Detail)
}

func because(detail string) string {
	if detail == "" {
		return ""
	}
	return ", " + detail
}

// which names one node, or counts them, with the verb.
func which(a *api.ProblemArgs, one, many string) string {
	if a.Count == 1 {
		return "node " + a.Node + " " + one
	}
	return fmt.Sprintf("%d nodes (%s …) %s", a.Count, a.Node, many)
}

func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}

// ago is a duration for people.
func ago(s *float64) string {
	switch {
	case s == nil:
		return "some time"
	case *s < 0.001:
		return "less than 1 ms"
	case *s < 1:
		return fmt.Sprintf("%.0f ms", *s*1000)
	case *s < 10:
		return fmt.Sprintf("%.1f s", *s)
	case *s < 120:
		return fmt.Sprintf("%.0f s", *s)
	case *s < 7200:
		return fmt.Sprintf("%.0f min", *s/60)
	}
	return fmt.Sprintf("%.0f h", *s/3600)
}
