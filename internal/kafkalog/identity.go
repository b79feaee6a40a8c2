package kafkalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/describegroups"

	"github.com/freshet/freshet/internal/kafkalog/wire"
)

// Members of one group share one database and one namespace. Members of two deployments whose operators left the group's
// name alone would share the partitions between the databases, and each would lack half of the data. So each member says in
// its group metadata what it writes; a member does not join, and does not stay, beside members that write something else,
// and the leader assigns nothing to those.

// describeGroupsVersion is the newest without members' instance ids; brokers have it since 2.3.
const describeGroupsVersion = 3

// ErrMixedGroup is returned, wrapped, when members of a consumer group write different databases or namespaces.
var ErrMixedGroup = errors.New("consumer group is shared with another deployment")

// Identity is what the members of a consumer group must have in common. Members of releases that have no identity are
// accepted.
type Identity struct {
	// Database and Namespace are compared.
	Database, Namespace string
	// Label describes the database to an operator, without secrets. It is not compared.
	Label string
}

func (id Identity) known() bool { return id.Database != "" }

func (id Identity) fits(other Identity) bool {
	return !id.known() || !other.known() || id.Database == other.Database && id.Namespace == other.Namespace
}

func (id Identity) String() string {
	return fmt.Sprintf("database %s (%s) in namespace %q", id.Label, id.Database, id.Namespace)
}

func (id Identity) append(b []byte) []byte {
	for _, s := range []string{id.Database, id.Namespace, id.Label} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

func readIdentity(w *wire.Reader) Identity {
	text := func() string { return string(w.Take(w.Uvarint())) }
	return Identity{Database: text(), Namespace: text(), Label: text()}
}

// SetIdentity sets what this member says of itself from its next join on. Call it before Run.
func (c *Consumer) SetIdentity(id Identity) {
	c.balancer.mu.Lock()
	defer c.balancer.mu.Unlock()
	c.balancer.identity = id
}

func (s *sticky) self() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}

// ours returns the members that write what this member writes, or do not say what they write.
func (s *sticky) ours(members []kafka.GroupMember) []kafka.GroupMember {
	self := s.self()
	out := make([]kafka.GroupMember, 0, len(members))
	for _, m := range members {
		if self.fits(decodeClaim(m.UserData).identity) {
			out = append(out, m)
		}
	}
	return out
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
	group, err := c.client.describeGroup(ctx, c.cfg.Group)
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

// describeGroup asks a group's coordinator for its state and members.
func (c *Client) describeGroup(ctx context.Context, group string) (describegroups.ResponseGroup, error) {
	var none describegroups.ResponseGroup
	k, err := c.coordinator(ctx, group)
	if err != nil {
		return none, err
	}
	defer func() { _ = k.close() }()
	res, err := k.roundTrip(ctx, describeGroupsVersion, &describegroups.Request{Groups: []string{group}})
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
		if err != nil && s != nil && len(s.lines) == 0 {
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
