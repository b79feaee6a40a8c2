package pulse

import (
	"strings"
	"time"

	"github.com/freshet/freshet/admin/api"
)

// Codes of api.Wait.
const (
	waitPaused      = "paused"
	waitRefused     = "refused"
	waitServer      = "server"
	waitStopped     = "stopped"
	waitTransaction = "transaction"
	waitNoWorker    = "no_worker"
	waitSilent      = "silent_worker"
	waitTopic       = "topic"
	waitBusy        = "busy"
)

// WaitOf returns what a partition waits for; nil if it waits for nothing. pause is its dataset's, worker the one that has it; nil: none.
func WaitOf(p *api.Partition, pause *api.Pause, worker *api.WorkerState) *api.Wait {
	if p.Partition < 0 {
		return &api.Wait{Code: waitTopic, Detail: p.Error}
	}
	if pause != nil {
		since := pause.Since
		return &api.Wait{Code: waitPaused, Since: &since, Detail: pause.Why}
	}
	if worker == nil || !worker.Alive {
		if p.Records == 0 && p.Held == 0 {
			return nil
		}
		return &api.Wait{Code: waitNoWorker}
	}
	if seconds(worker.Seconds) >= silentAfter {
		return &api.Wait{Code: waitSilent}
	}
	if w := standing(p, worker); w != nil {
		return w
	}
	switch {
	case p.Held > 0 && p.Records == 0 && p.Transaction != nil:
		return &api.Wait{Code: waitTransaction, Since: &p.Transaction.LastWrite}
	case p.Records > 0:
		return &api.Wait{Code: waitBusy}
	}
	return nil
}

// standing returns what the partition's worker says that keeps it, or all partitions, from being applied.
func standing(p *api.Partition, worker *api.WorkerState) *api.Wait {
	for _, wp := range worker.Partitions {
		if wp.Topic == p.Topic && wp.Partition == p.Partition && wp.Stopped {
			return &api.Wait{Code: waitStopped, Detail: wp.Error}
		}
	}
	for _, why := range worker.Degraded {
		if w := serverWait(why); w != nil && strings.Contains(why, p.Topic) {
			return w
		}
		if text, ok := strings.CutPrefix(why, "dataset "+p.Dataset+" is paused: "); ok {
			return &api.Wait{Code: waitRefused, Detail: text}
		}
	}
	for _, why := range worker.NotReady {
		if w := serverWait(why); w != nil {
			return w
		}
	}
	return nil
}

// serverWait reads a worker's sentence "waiting since TIME for SERVER: STEP: ERROR"; nil for another one.
func serverWait(why string) *api.Wait {
	rest, ok := strings.CutPrefix(why, "waiting since ")
	if !ok {
		return nil
	}
	at, what, ok := strings.Cut(rest, " for ")
	since, err := time.Parse(time.RFC3339, at)
	if !ok || err != nil {
		return nil
	}
	w := &api.Wait{Code: waitServer, Since: &since, Detail: what}
	servers, step, ok := strings.Cut(what, ": ")
	if !ok {
		return w
	}
	for _, s := range []struct{ word, name string }{{"mysql", "MySQL"}, {"redis", "Redis"}, {"kafka", "Kafka"}} {
		if strings.Contains(servers, s.word) {
			w.Server, w.Detail = s.name, step
			break
		}
	}
	return w
}
