package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/heartbeat"
	"github.com/segmentio/kafka-go/protocol/joingroup"
	"github.com/segmentio/kafka-go/protocol/leavegroup"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/segmentio/kafka-go/protocol/offsetfetch"
	"github.com/segmentio/kafka-go/protocol/syncgroup"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/schemas"
)

// errGenerationEnded is the cause of a generation's end that is in order: the group rebalances, or the consumer stops.
var errGenerationEnded = errors.New("generation has ended")

// errMemberIDRequired is the coordinator's answer to a first join: it comes with the id to join under.
const errMemberIDRequired = kafka.Error(79)

// membership is this consumer's place in the group. Its methods are called by one goroutine, except resubscribe and regroup.
type membership struct {
	c     *Consumer
	link  link
	id    string // assigned by the coordinator; "" before
	leave func() // ends the membership

	mu     sync.Mutex // guards everything below
	topics []string
	end    context.CancelCauseFunc // of the current generation
}

// generation is what the group assigned to this member.
type generation struct {
	id     int32
	member string
	group  string
	parts  map[string][]int32 // by topic, sorted
	// committed are the group's offsets; partitions without one are left out.
	committed map[string]map[int32]int64
	// commits are the links to the coordinators of the groups that have the offsets.
	commits map[string]*link
}

func (c *Consumer) newMembership(topics []string, leave func()) *membership {
	return &membership{c: c, link: link{client: c.client, group: c.cfg.Group}, topics: topics, leave: leave}
}

func (m *membership) balancers() []kafka.GroupBalancer {
	return []kafka.GroupBalancer{m.c.balancer, kafka.RangeGroupBalancer{}}
}

// resubscribe ends the current generation; the next one is for these topics.
func (m *membership) resubscribe(topics []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.topics = topics
	if m.end != nil {
		m.end(errGenerationEnded)
	}
}

func (m *membership) subscription() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.topics
}

// join returns the next generation. After an error the id is kept only where the coordinator may still know it.
func (m *membership) join(ctx context.Context) (*generation, error) {
	gen, err := m.enter(ctx)
	if err != nil && !passing(err) && !errors.Is(err, kafka.RebalanceInProgress) {
		m.depart(ctx)
	}
	return gen, err
}

// enter joins, assigns the partitions if this member is the leader, and learns its own.
func (m *membership) enter(ctx context.Context) (*generation, error) {
	res, err := m.askJoin(ctx)
	if err != nil {
		return nil, err
	}
	sync := &syncgroup.Request{GroupID: m.c.cfg.Group, GenerationID: res.GenerationID, MemberID: m.id}
	if res.LeaderID == m.id {
		if sync.Assignments, err = m.assign(ctx, res); err != nil {
			return nil, fmt.Errorf("assign partitions: %w", err)
		}
	}
	sr, err := ask[*syncgroup.Response](ctx, &m.link, coordinatorTimeout+m.c.cfg.SessionTimeout, 2, sync)
	if err == nil {
		err = m.link.code(sr.ErrorCode)
	}
	if err != nil {
		return nil, fmt.Errorf("sync group: %w", err)
	}
	gen := &generation{
		id: res.GenerationID, member: m.id, group: m.c.cfg.Group, commits: map[string]*link{},
	}
	if gen.parts, err = decodeAssignment(sr.Assignments); err != nil {
		return nil, fmt.Errorf("sync group: %w", err)
	}
	if err := m.readCommitted(ctx, gen); err != nil {
		gen.close()
		return nil, fmt.Errorf("read committed offsets: %w", err)
	}
	return gen, nil
}

func (m *membership) askJoin(ctx context.Context) (*joingroup.Response, error) {
	timeout := int32(m.c.cfg.SessionTimeout.Milliseconds())
	req := &joingroup.Request{
		GroupID: m.c.cfg.Group, SessionTimeoutMS: timeout, RebalanceTimeoutMS: timeout, ProtocolType: "consumer",
	}
	for _, b := range m.balancers() {
		data, err := b.UserData()
		if err != nil {
			return nil, fmt.Errorf("join group: %w", err)
		}
		req.Protocols = append(req.Protocols, joingroup.RequestProtocol{
			Name: b.ProtocolName(), Metadata: encodeSubscription(m.subscription(), data),
		})
	}
	for {
		req.MemberID = m.id
		res, err := ask[*joingroup.Response](ctx, &m.link, coordinatorTimeout+m.c.cfg.SessionTimeout, 4, req)
		switch {
		case err != nil:
			return nil, err
		case kafka.Error(res.ErrorCode) == errMemberIDRequired && m.id == "" && res.MemberID != "":
			m.id = res.MemberID
			continue
		}
		if err := m.link.code(res.ErrorCode); err != nil {
			return nil, err
		}
		m.id = res.MemberID
		return res, nil
	}
}

// assign is the leader's work. A topic that does not exist, or that this member may not see, is assigned to no member; the
// topic watch of each member looks for it. Asking never creates a topic.
func (m *membership) assign(ctx context.Context, res *joingroup.Response) ([]syncgroup.RequestAssignment, error) {
	i := slices.IndexFunc(m.balancers(), func(b kafka.GroupBalancer) bool { return b.ProtocolName() == res.ProtocolName })
	if i < 0 {
		return nil, fmt.Errorf("the group chose protocol %q; stop the members of other programs, or set another kafka.group", res.ProtocolName)
	}
	members := make([]kafka.GroupMember, 0, len(res.Members))
	var topics []string
	for _, jm := range res.Members {
		names, data, err := decodeSubscription(jm.Metadata)
		if err != nil {
			return nil, fmt.Errorf("read subscription of member %s: %w", jm.MemberID, err)
		}
		members = append(members, kafka.GroupMember{ID: jm.MemberID, Topics: names, UserData: data})
		topics = append(topics, names...)
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	cl, err := m.c.client.Metadata(ctx, topics...)
	if err != nil {
		return nil, err
	}
	var parts []kafka.Partition
	for _, t := range topics {
		if err := cl.Topics[t].Err; err != nil {
			m.c.log.Warn("topic is assigned to no member", "topic", t, "error", err)
			continue
		}
		for p := range cl.Topics[t].Info.Partitions {
			parts = append(parts, kafka.Partition{Topic: t, ID: int(p)})
		}
	}
	var out []syncgroup.RequestAssignment
	for id, assigned := range m.balancers()[i].AssignGroups(members, parts) {
		out = append(out, syncgroup.RequestAssignment{MemberID: id, Assignment: encodeAssignment(assigned)})
	}
	slices.SortFunc(out, func(a, b syncgroup.RequestAssignment) int { return cmp.Compare(a.MemberID, b.MemberID) })
	return out, nil
}

func (m *membership) readCommitted(ctx context.Context, gen *generation) error {
	gen.committed = map[string]map[int32]int64{}
	reqs := map[string]*offsetfetch.Request{}
	for t, ids := range gen.parts {
		of := kafkalog.OffsetGroup(gen.group, t)
		if gen.commits[of] == nil {
			gen.commits[of] = &link{client: m.c.client, group: of}
		}
		kafkalog.AddOffsetRequest(reqs, of, offsetfetch.RequestTopic{Name: schemas.KafkaTopic(t), PartitionIndexes: ids})
	}
	for of, req := range reqs {
		l := gen.commits[of]
		res, err := ask[*offsetfetch.Response](ctx, l, coordinatorTimeout, 5, req)
		if err == nil && kafka.Error(res.ErrorCode) != kafkalog.ErrNoGroup {
			err = l.code(res.ErrorCode)
		}
		got := map[string]map[int32]int64{}
		if err == nil {
			err = kafkalog.CommittedIn(res, got)
		}
		if err != nil {
			return err
		}
		for t := range gen.parts {
			if parts, ok := got[schemas.KafkaTopic(t)]; ok && kafkalog.OffsetGroup(gen.group, t) == of {
				gen.committed[t] = parts
			}
		}
	}
	return nil
}

// run keeps the membership alive while the generation's sessions run, and ends with it.
func (m *membership) run(ctx context.Context, gen *generation) {
	// Not a child of ctx: its end is the generation's, which a session must be able to distinguish.
	gctx, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { end(errGenerationEnded) })
	defer stop()
	m.mu.Lock()
	m.end = end
	m.mu.Unlock()
	var beating sync.WaitGroup
	beating.Go(func() {
		if err := m.beat(gctx, gen); err != nil {
			m.c.log.Info("group rebalances", "generation", gen.id, "reason", err)
		}
		end(errGenerationEnded)
	})
	for again := true; again && gctx.Err() == nil; {
		again = newSession(m.c, gen, m.leave).run(gctx)
	}
	m.mu.Lock()
	m.end = nil
	m.mu.Unlock()
	end(errGenerationEnded)
	beating.Wait()
	gen.close()
}

func (g *generation) close() {
	for _, l := range g.commits {
		l.close()
	}
}

// beat reports to the coordinator until the group moves on or has certainly given this member up. A connection that ends,
// as the broker's limit for authenticated ones does, and a coordinator that moves end nothing.
func (m *membership) beat(ctx context.Context, gen *generation) error {
	req := &heartbeat.Request{GroupID: gen.group, GenerationID: gen.id, MemberID: gen.member}
	limit := min(coordinatorTimeout, m.c.cfg.SessionTimeout/3)
	t := time.NewTicker(m.c.cfg.Heartbeat)
	defer t.Stop()
	for heard := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		sent := time.Now()
		res, err := ask[*heartbeat.Response](ctx, &m.link, limit, 0, req) // kafka-go misreads the replies of later versions
		if err == nil {
			err = m.link.code(res.ErrorCode)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			heard = sent
		case !passing(err) || time.Since(heard) >= m.c.cfg.SessionTimeout:
			return err
		default:
			m.c.log.Warn("coordinator does not answer", "error", err, "since", heard)
		}
	}
}

// depart leaves the group, if it can, and forgets the id.
func (m *membership) depart(ctx context.Context) {
	if m.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), coordinatorTimeout)
	defer cancel()
	_, err := ask[*leavegroup.Response](ctx, &m.link, coordinatorTimeout, 0, &leavegroup.Request{GroupID: m.c.cfg.Group, MemberID: m.id})
	if err != nil {
		m.c.log.Debug("leaving the group failed", "error", err)
	}
	m.id = ""
}

// commit commits offsets and returns those that the coordinators accepted; the error is about the others.
func (g *generation) commit(ctx context.Context, offsets map[string]map[int32]int64) (accepted map[string]map[int32]int64, err error) {
	byGroup := map[string][]string{}
	for t := range offsets {
		of := kafkalog.OffsetGroup(g.group, t)
		byGroup[of] = append(byGroup[of], t)
	}
	accepted = map[string]map[int32]int64{}
	for of, topics := range byGroup {
		err = errors.Join(err, g.commitTo(ctx, of, topics, offsets, accepted))
	}
	return accepted, err
}

// commitTo commits the offsets of topics to the group that has them. A group of a stream has no members, so nothing fences
// what is committed to it: a member that lost the partition may set the offset back, and its next owner emits again what it
// finds behind it.
func (g *generation) commitTo(ctx context.Context, of string, topics []string, offsets, accepted map[string]map[int32]int64) (err error) {
	req := &offsetcommit.Request{GroupID: of, GenerationID: g.id, MemberID: g.member}
	if of != g.group {
		req.GenerationID, req.MemberID = -1, ""
	}
	names := map[string]string{}
	for _, t := range topics {
		rt := offsetcommit.RequestTopic{Name: schemas.KafkaTopic(t)}
		names[rt.Name] = t
		for p, next := range offsets[t] {
			rt.Partitions = append(rt.Partitions, offsetcommit.RequestPartition{PartitionIndex: p, CommittedOffset: next})
		}
		req.Topics = append(req.Topics, rt)
	}
	l := g.commits[of]
	res, err := ask[*offsetcommit.Response](ctx, l, coordinatorTimeout, 5, req)
	if err != nil {
		return err
	}
	for _, t := range res.Topics {
		name := names[t.Name]
		for _, p := range t.Partitions {
			if code := l.code(p.ErrorCode); code != nil {
				err = fmt.Errorf("%s/%d: %w", name, p.PartitionIndex, code)
				continue
			}
			for _, m := range []map[string]map[int32]int64{accepted, g.committed} {
				if m[name] == nil {
					m[name] = map[int32]int64{}
				}
				m[name][p.PartitionIndex] = offsets[name][p.PartitionIndex]
			}
		}
	}
	return err
}
