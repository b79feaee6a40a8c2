package group

import (
	"cmp"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/schemas"
)

// isStream reports whether several datasets read the feed's topic.
func (d *feed) isStream() bool { return strings.Contains(d.part.Topic, "#") }

// sharesWith reports whether both are streams of the same partition.
func (d *feed) sharesWith(o *feed) bool {
	return d.part.ID == o.part.ID && schemas.KafkaTopic(d.part.Topic) == schemas.KafkaTopic(o.part.Topic)
}

// mayWant reports whether a request may ask for a feed. Of the streams of a topic only one may ask for a partition: the one
// whose last request is oldest, so that one that is far behind and one that is at the end do not wait for each other.
func (r *fetchRound) mayWant(d *feed) bool {
	if !d.isStream() {
		return true
	}
	i := slices.IndexFunc(r.feeds, d.sharesWith)
	if i < 0 {
		return true
	}
	if o := r.feeds[i]; cmp.Or(cmp.Compare(d.asked, o.asked), cmp.Compare(d.next, o.next)) < 0 {
		r.wants[i] = kafkalog.FetchWant{Topic: d.part.Topic, Partition: d.part.ID, Offset: d.next, Epoch: d.epoch}
		r.feeds[i], r.turns[i] = d, d.turn
		d = o
	}
	r.others = append(r.others, d)
	return false
}

// settleTurns notes which streams a request is for. It does not wait for new records while a stream wants older ones.
func (r *fetchRound) settleTurns(turn int) {
	for _, d := range r.feeds {
		d.asked = turn
	}
	for _, o := range r.others {
		switch d := r.feeds[slices.IndexFunc(r.feeds, o.sharesWith)]; {
		case o.next == d.next:
			o.asked = turn
		case o.next < d.next:
			r.wait = 0
		}
	}
}

// waitingFor returns the other streams of a feed's partition that want the same records, and their turns: one reply serves
// all that are as far.
func (f *fetcher) waitingFor(d *feed, offset int64) map[*feed]int {
	if !d.isStream() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[*feed]int{}
	for _, o := range f.feeds {
		if o != d && o.sharesWith(d) && o.state == feedActive && o.next == offset && o.held < f.share {
			out[o] = o.turn
		}
	}
	return out
}
