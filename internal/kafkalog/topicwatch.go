package kafkalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/retry"
)

// lookForTopics is how often at least topics that appear, disappear or get partitions are looked for.
const lookForTopics = 15 * time.Second

// topicSet is which topics exist, with their ids and numbers of partitions.
type topicSet map[string]TopicInfo

func (s topicSet) names() []string { return slices.Sorted(maps.Keys(s)) }

// awaitTopics waits until at least one topic exists, and returns those that do.
func (c *Consumer) awaitTopics(ctx context.Context) (found topicSet, err error) {
	err = retry.Do(ctx, retry.Policy{First: firstWait, Max: lastWait}, func(ctx context.Context) error {
		var none error
		if found, none, err = c.findTopics(ctx); err == nil && len(found) == 0 {
			err = none
		}
		c.note(err)
		return err
	})
	return found, err
}

// findTopics asks for all topics in one request, which never creates one. A topic that cannot be read is missing; none is
// the reason of one of them.
func (c *Consumer) findTopics(ctx context.Context) (found topicSet, none, err error) {
	cl, err := c.client.metadata(ctx, c.cfg.Topics...)
	if err != nil {
		return nil, nil, err
	}
	found = topicSet{}
	var missing []string
	for _, t := range c.cfg.Topics {
		if e := cl.topics[t].err; e != nil {
			missing = append(missing, t)
			none = fmt.Errorf("find topic %s: %w", t, e)
			continue
		}
		found[t] = cl.topics[t].info
	}
	c.mu.Lock()
	if !slices.Equal(c.missing, missing) {
		c.log.Warn("topics changed", "missing", missing)
	}
	c.missing = missing
	c.mu.Unlock()
	return found, none, nil
}

// watchTopics lets the member join for other topics when some appear, disappear or are recreated, or have more partitions. The others
// continue in the next generation, which every member then joins.
func (c *Consumer) watchTopics(ctx context.Context, m *membership, known topicSet) {
	t := time.NewTicker(min(lookForTopics, c.cfg.WatchInterval))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		found, _, err := c.findTopics(ctx)
		switch {
		case err != nil || maps.Equal(found, known):
		case len(found) == 0:
			m.leave()
			return
		default:
			known = found
			m.resubscribe(found.names())
		}
	}
}
