package group

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"

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
