package kafkalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/deletetopics"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"

	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
)

// topicPolicy is how often the cluster is asked whether a topic is there or gone.
func topicPolicy() retry.Policy { return retry.Policy{First: 20 * time.Millisecond, Max: time.Second} }

// MissingTopicFix returns how a topic that does not exist comes to be: Freshet makes those of its own format, and leaves those of
// a capture tool to the tool.
func MissingTopicFix(f schemas.Format) string {
	if f == schemas.FormatCloudEvents {
		return "make it with `freshet migrate datasets`"
	}
	return "start the capture tool that fills it or create it with the tool's number of partitions, or correct the dataset's topic"
}

// CreateTopics makes the topics that do not exist and waits until each has leaders. A topic that exists is left as it
// is. It tries again until ctx ends or 15 s are over.
func (c *Client) CreateTopics(ctx context.Context, specs []TopicSpec) error {
	if len(specs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	req := &createtopics.Request{TimeoutMs: int32(requestTimeout.Milliseconds() / 2)}
	names := make([]string, 0, len(specs))
	for _, s := range specs {
		names = append(names, s.Name)
		t := createtopics.RequestTopic{
			Name:              s.Name,
			NumPartitions:     int32(cmp.Or(s.Partitions, 1)),
			ReplicationFactor: int16(cmp.Or(s.ReplicationFactor, -1)),
		}
		for k, v := range s.Config {
			t.Configs = append(t.Configs, createtopics.RequestConfig{Name: k, Value: v})
		}
		req.Topics = append(req.Topics, t)
	}
	err := retry.Do(ctx, topicPolicy(), func(ctx context.Context) error {
		res, err := c.askController(ctx, 4, req)
		if err != nil {
			return lasting(err)
		}
		for _, t := range res.(*createtopics.Response).Topics {
			if code := kafka.Error(t.ErrorCode); code != 0 && code != kafka.TopicAlreadyExists {
				return controllerError(fmt.Errorf("topic %s: %s: %w", t.Name, t.ErrorMessage, code))
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	return c.awaitTopics(ctx, names, func(cl *Cluster, name string) error {
		if err := cl.Topics[name].Err; err != nil {
			return err
		}
		for p := range cl.Topics[name].Info.Partitions {
			if _, _, _, err := cl.Leader(name, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteTopics removes topics and waits until they are gone; a topic that does not exist is gone already.
func (c *Client) DeleteTopics(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	req := &deletetopics.Request{TopicNames: names, TimeoutMs: int32(requestTimeout.Milliseconds() / 2)}
	err := retry.Do(ctx, topicPolicy(), func(ctx context.Context) error {
		res, err := c.askController(ctx, 3, req)
		if err != nil {
			return lasting(err)
		}
		for _, t := range res.(*deletetopics.Response).Responses {
			if code := kafka.Error(t.ErrorCode); code != 0 && code != kafka.UnknownTopicOrPartition {
				return controllerError(fmt.Errorf("topic %s: %w", t.Name, code))
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete topics: %w", err)
	}
	return c.awaitTopics(ctx, names, func(cl *Cluster, name string) error {
		switch err := cl.Topics[name].Err; {
		case errors.Is(err, ErrNoTopic):
			return nil
		case err != nil:
			return err
		}
		return kafka.TopicAlreadyExists
	})
}

func controllerError(err error) error {
	var code kafka.Error
	if errors.As(err, &code) && (code.Temporary() || code == kafka.NotController) {
		return err
	}
	return retry.Permanent(err)
}

// awaitTopics asks until ready is content with each of the topics.
func (c *Client) awaitTopics(ctx context.Context, names []string, ready func(*Cluster, string) error) error {
	return retry.Do(ctx, topicPolicy(), func(ctx context.Context) error {
		cl, err := c.Metadata(ctx, names...)
		if err != nil {
			return lasting(err)
		}
		for _, n := range names {
			if err := ready(cl, n); err != nil {
				return fmt.Errorf("await topic %s: %w", n, err)
			}
		}
		return nil
	})
}

// askController sends a request to the cluster's controller, or where a broker forwards to it, to any.
func (c *Client) askController(ctx context.Context, version int16, req protocol.Message) (protocol.Message, error) {
	cl, err := c.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	var k *Conn
	if addr, ok := cl.Brokers[cl.controller]; ok {
		k, err = c.Dial(ctx, addr)
	} else {
		k, err = c.bootstrap(ctx)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = k.Close() }()
	return k.RoundTrip(ctx, version, req)
}

// TopicWarning is a setting of a topic that endangers what Freshet promises.
type TopicWarning struct {
	// Setting is the broker's name for it, Value what it says.
	Setting, Value string
	// Problem is what may happen, Fix what to do.
	Problem, Fix string
}

// String returns "setting=value: problem; fix".
func (w TopicWarning) String() string {
	return w.Setting + "=" + w.Value + ": " + w.Problem + "; " + w.Fix
}

// CheckTopic compares a topic's settings with what Freshet needs. repair is how far back a lane may have to be repaired
// from the topic; records must live that long. No warning means an empty list. Errors: ErrNoTopic.
func (c *Client) CheckTopic(ctx context.Context, topic string, repair time.Duration) ([]TopicWarning, error) {
	cl, err := c.Metadata(ctx, topic)
	if err == nil {
		err = cl.Topics[topic].Err
	}
	if err != nil {
		return nil, fmt.Errorf("check topic %s: %w", topic, err)
	}
	settings, err := c.topicSettings(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("check topic %s: %w", topic, err)
	}
	replicas := 0
	for _, l := range cl.Topics[topic].leaders {
		if replicas == 0 || l.all < replicas {
			replicas = l.all
		}
	}
	return judgeTopic(settings, replicas, repair), nil
}

// Compacted reports whether a topic's records go by compaction alone, never by age or size. Errors: ErrNoTopic.
func (c *Client) Compacted(ctx context.Context, topic string) (bool, error) {
	if _, err := c.Topic(ctx, topic); err != nil {
		return false, err
	}
	settings, err := c.topicSettings(ctx, topic)
	if IsAuthorization(err) {
		return false, fmt.Errorf("read settings of topic %s: %w: grant DESCRIBE_CONFIGS on it", topic, ErrDenied)
	}
	if err != nil {
		return false, fmt.Errorf("read settings of topic %s: %w", topic, err)
	}
	return slices.Contains(strings.Split(settings["cleanup.policy"], ","), "compact"), nil
}

func (c *Client) topicSettings(ctx context.Context, topic string) (map[string]string, error) {
	k, err := c.bootstrap(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = k.Close() }()
	const topicResource = 2
	res, err := k.RoundTrip(ctx, 1, &describeconfigs.Request{
		Resources: []describeconfigs.RequestResource{{ResourceType: topicResource, ResourceName: schemas.KafkaTopic(topic)}},
	})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, r := range res.(*describeconfigs.Response).Resources {
		if r.ErrorCode != 0 {
			return nil, kafka.Error(r.ErrorCode)
		}
		for _, e := range r.ConfigEntries {
			out[e.ConfigName] = e.ConfigValue
		}
	}
	return out, nil
}

// DeletesRetention is how long a compacted topic should keep deletions (delete.retention.ms): longer than any worker is away.
const DeletesRetention = 7 * 24 * time.Hour

func judgeTopic(settings map[string]string, replicas int, repair time.Duration) []TopicWarning {
	var out []TopicWarning
	warn := func(setting, value, problem, fix string) {
		out = append(out, TopicWarning{setting, value, problem, fix})
	}
	policies := strings.FieldsFunc(settings["cleanup.policy"], func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(policies, "compact") {
		if keep := millis(settings["delete.retention.ms"]); keep >= 0 && keep < DeletesRetention {
			warn("delete.retention.ms", settings["delete.retention.ms"],
				"a worker that is away for longer never reads a deletion, and keeps the row",
				"set it to "+strconv.FormatInt(DeletesRetention.Milliseconds(), 10)+" or more")
		}
		lag := millis(settings["min.compaction.lag.ms"])
		if lag >= 0 && lag < repair {
			warn("min.compaction.lag.ms", settings["min.compaction.lag.ms"],
				"a record may be compacted away while its invalidation is still to be repaired",
				"set it to "+strconv.FormatInt(repair.Milliseconds(), 10)+" or more")
		}
	}
	if slices.Contains(policies, "delete") {
		const why = "records that no one has read yet may be deleted, and a new replica cannot be filled from the topic"
		if millis(settings["retention.ms"]) >= 0 {
			warn("retention.ms", settings["retention.ms"], why,
				"use cleanup.policy=compact, set it to -1, or at least well above "+repair.String())
		}
		if b, err := strconv.ParseInt(settings["retention.bytes"], 10, 64); err == nil && b >= 0 {
			warn("retention.bytes", settings["retention.bytes"], why, "set it to -1")
		}
	}
	if replicas == 1 {
		warn("replication.factor", "1", "an acknowledged record is lost with its one broker", "use 3 replicas")
	}
	isr, err := strconv.Atoi(settings["min.insync.replicas"])
	if err == nil && replicas > 1 && isr < 2 {
		warn("min.insync.replicas", settings["min.insync.replicas"],
			"a record may be acknowledged by a single broker and be lost with it", "set it to 2")
	}
	if settings["unclean.leader.election.enable"] == "true" {
		warn("unclean.leader.election.enable", "true", "acknowledged records may be lost when leaders change", "set it to false")
	}
	return out
}

// millis reads a setting in ms; what is not a number, or permanently, is negative.
func millis(s string) time.Duration {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > int64(time.Duration(1<<63-1)/time.Millisecond) {
		return -1
	}
	return time.Duration(n) * time.Millisecond
}
