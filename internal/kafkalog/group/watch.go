package group

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/describegroups"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/wire"
	"github.com/freshet/freshet/internal/retry"
)

// lookForTopics is how often at least topics that appear, disappear or get partitions are looked for.
const lookForTopics = 15 * time.Second

// topicSet is which topics exist, with their ids and numbers of partitions.
type topicSet map[string]kafkalog.TopicInfo

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
	cl, err := c.client.Metadata(ctx, c.cfg.Topics...)
	if err != nil {
		return nil, nil, err
	}
	found = topicSet{}
	var missing []string
	for _, t := range c.cfg.Topics {
		if e := cl.Topics[t].Err; e != nil {
			missing = append(missing, t)
			none = fmt.Errorf("find topic %s: %w", t, e)
			continue
		}
		found[t] = cl.Topics[t].Info
	}
	c.mu.Lock()
	if !slices.Equal(c.missing, missing) {
		c.log.Warn("topics changed", "topics", missing)
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

// checkMembers returns ErrMixedGroup if the group has a member that writes something else. While the group rebalances the
// coordinator does not report what members say; then, and when it cannot be asked, the result of the last check stands.
func (c *Consumer) checkMembers(ctx context.Context) error {
	self := c.balancer.self()
	if !self.known() {
		return nil
	}
	c.mu.Lock()
	last := c.mixed
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, coordinatorTimeout)
	defer cancel()
	group, err := c.describeGroup(ctx)
	if err != nil || !slices.Contains([]string{"Stable", "Empty", "Dead"}, group.GroupState) {
		c.log.Debug("members of the group are not checked", "state", group.GroupState, "error", err)
		return last
	}
	for _, m := range group.Members {
		_, data, _ := decodeSubscription(m.MemberMetadata) // a member that cannot be read claims nothing
		if other := decodeClaim(data).identity; !self.fits(other) {
			return fmt.Errorf("%w: group %s: this worker writes %s, member %s at %s writes %s; set another kafka.group for one of them",
				ErrMixedGroup, c.cfg.Group, self, m.ClientID, m.ClientHost, other)
		}
	}
	return nil
}

// describeGroup asks the group's coordinator for its state and members.
func (c *Consumer) describeGroup(ctx context.Context) (describegroups.ResponseGroup, error) {
	var none describegroups.ResponseGroup
	k, err := c.client.Coordinator(ctx, c.cfg.Group)
	if err != nil {
		return none, err
	}
	defer func() { _ = k.Close() }()
	res, err := k.RoundTrip(ctx, describeGroupsVersion, &describegroups.Request{Groups: []string{c.cfg.Group}})
	if err != nil {
		return none, fmt.Errorf("describe group: %w", err)
	}
	groups := res.(*describegroups.Response).Groups
	if len(groups) != 1 {
		return none, fmt.Errorf("describe group: %w: %d groups, want 1", wire.ErrMalformed, len(groups))
	}
	if code := groups[0].ErrorCode; code != 0 {
		return none, fmt.Errorf("describe group: %w", kafka.Error(code))
	}
	return groups[0], nil
}

// mayJoin waits a moment if the group belongs to another deployment.
func (c *Consumer) mayJoin(ctx context.Context) bool {
	if c.cfg.MayJoin != nil {
		err := c.cfg.MayJoin(ctx)
		if c.note(err); err != nil {
			await(ctx, nil, time.Now().Add(joinBackoff))
			return false
		}
	}
	err := c.checkMembers(ctx)
	c.setMixed(err)
	if err == nil {
		return true
	}
	await(ctx, nil, time.Now().Add(c.cfg.WatchInterval))
	return false
}

// watchMembers ends the membership of a member that was assigned nothing beside members that write something else: the
// leader is one of those. A member that has partitions stays, and reports the others.
func (c *Consumer) watchMembers(ctx context.Context, regroup func(), generations <-chan struct{}) {
	t := time.NewTicker(c.cfg.WatchInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-generations:
		case <-t.C:
		}
		err := c.checkMembers(ctx)
		if ctx.Err() != nil {
			return
		}
		c.setMixed(err)
		c.mu.Lock()
		s := c.session
		c.mu.Unlock()
		if err != nil && s != nil && len(s.fetch.feeds) == 0 {
			regroup()
			return
		}
	}
}

func (c *Consumer) setMixed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.mixed == nil {
		c.log.Error("consumer group is shared", "error", err)
	}
	c.mixed = err
}
