package testenv

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// KafkaOptions of a one-node broker. The zero value works.
type KafkaOptions struct {
	// Properties are added to server.properties; they win over ours.
	Properties map[string]string
	// SCRAM adds a listener that wants a login by SCRAM-SHA-256: see SCRAMBrokers and SetPassword.
	SCRAM bool
	// Authorizer lets users of that listener do what Allow gave them and nothing else. Who comes without a login may do everything.
	Authorizer bool
}

// KafkaServer is a broker that answers.
type KafkaServer struct {
	instance
	// Brokers are the bootstrap addresses, host:port.
	Brokers []string
	// SCRAMBrokers are those of the listener that wants a login.
	SCRAMBrokers []string
	// Authorizer: users of that listener may do what Allow gave them alone.
	Authorizer bool
	// Version is "4.4.0", or what a given server's API versions look like.
	Version string
	// Real is false when kfake replaces it because Apache Kafka could not be had.
	Real bool
}

// RequireReal skips a test that proves nothing against the stand-in.
func (s *KafkaServer) RequireReal(t testing.TB) {
	t.Helper()
	if !s.Real {
		Skip(t, "needs Apache Kafka, and kfake replaces it here")
	}
}

// Client returns a franz-go client, closed when the test ends: an oracle that shares no code with ours.
func (s *KafkaServer) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(s.Brokers...)}, opts...)...)
	if err != nil {
		t.Fatalf("testenv: make Kafka client: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// Topic returns a topic name that no other test has; the topic does not exist. It is deleted when the test ends.
func (s *KafkaServer) Topic(t testing.TB) string {
	t.Helper()
	name := unique("t.")
	t.Cleanup(func() {
		if s.private {
			return // gone with the server, which may be down by now
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.deleteTopic(ctx, name); err != nil {
			t.Logf("testenv: delete topic %s: %v", name, err)
		}
	})
	return name
}

// CreateTopic makes a topic of this test alone. config holds topic settings as "cleanup.policy=compact".
func (s *KafkaServer) CreateTopic(t testing.TB, partitions int32, config ...string) string {
	t.Helper()
	name := s.Topic(t)
	s.CreateTopicNamed(t, name, partitions, config...)
	return name
}

// CreateTopicNamed makes a topic under a name that Topic gave, for instance after a test deleted it.
func (s *KafkaServer) CreateTopicNamed(t testing.TB, name string, partitions int32, config ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.createTopic(ctx, name, partitions, config); err != nil {
		t.Fatalf("testenv: create topic %s: %v", name, err)
	}
}

// DeleteTopic deletes a topic now. A cleanup may call it.
func (s *KafkaServer) DeleteTopic(t testing.TB, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	if err := s.deleteTopic(ctx, name); err != nil {
		t.Fatalf("testenv: delete topic %s: %v", name, err)
	}
}

func (s *KafkaServer) createTopic(ctx context.Context, name string, partitions int32, config []string) error {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, partitions, -1
	for _, kv := range config {
		k, v, _ := strings.Cut(kv, "=")
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = k, &v
		topic.Configs = append(topic.Configs, c)
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30_000
	req.Topics = append(req.Topics, topic)
	c, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer c.Close()
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return fmt.Errorf("ask the broker: %w", err)
	}
	for _, r := range resp.Topics {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return err
		}
	}
	// The controller has it now; clients ask brokers, which learn of it a moment later.
	return until(ctx, func(ctx context.Context) error { return leaders(ctx, c, name, partitions) })
}

// leaders returns nil when every partition of the topic has a leader in the broker's metadata.
func leaders(ctx context.Context, c *kgo.Client, name string, partitions int32) error {
	req := kmsg.NewPtrMetadataRequest()
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = &name
	req.Topics = append(req.Topics, mt)
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return fmt.Errorf("ask for metadata: %w", err)
	}
	for _, t := range resp.Topics {
		if t.ErrorCode != 0 {
			return kerr.ErrorForCode(t.ErrorCode)
		}
		led := 0
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 && p.Leader >= 0 {
				led++
			}
		}
		if led == int(partitions) {
			return nil
		}
	}
	return errors.New("not every partition has a leader yet")
}

func (s *KafkaServer) deleteTopic(ctx context.Context, name string) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer c.Close()
	topic := kmsg.NewDeleteTopicsRequestTopic()
	topic.Topic = &name
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 10_000
	req.TopicNames, req.Topics = []string{name}, append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return fmt.Errorf("ask the broker: %w", err)
	}
	for _, r := range resp.Topics {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return err
		}
	}
	return until(ctx, func(ctx context.Context) error { return absent(ctx, c, name) })
}

// absent asks the broker whether a topic is gone. The controller answers a deletion first; until the broker receives it, it takes records that are lost.
func absent(ctx context.Context, c *kgo.Client, name string) error {
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &name
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation, req.Topics = false, append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return fmt.Errorf("ask the broker: %w", err)
	}
	for _, t := range resp.Topics {
		if !errors.Is(kerr.ErrorForCode(t.ErrorCode), kerr.UnknownTopicOrPartition) {
			return errors.New("the broker still has the topic")
		}
	}
	return nil
}

func givenKafka(ctx context.Context, addrs string) (*KafkaServer, error) {
	s := &KafkaServer{instance: instance{name: "Kafka"}, Brokers: strings.Split(addrs, ","), Real: true}
	if os.Getenv(kfakeNote) != "" {
		s.Real = false
	}
	if login := os.Getenv(KafkaLoginVar); login != "" {
		s.SCRAMBrokers, s.Authorizer = strings.Split(login, ","), true
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := until(ctx, func(ctx context.Context) error { return s.ask(ctx, "") }); err != nil {
		return nil, fmt.Errorf("ask the Kafka of %s: %w", KafkaVar, err)
	}
	return s, nil
}

// ask returns nil when the broker knows itself and has our cluster id; "" takes any.
func (s *KafkaServer) ask(ctx context.Context, cluster string) error {
	if err := dial(ctx, s.Brokers[0]); err != nil {
		return err
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.RequestRetries(0), kgo.RetryTimeout(5*time.Second))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return fmt.Errorf("ask for metadata: %w", err)
	}
	if cluster != "" && (resp.ClusterID == nil || *resp.ClusterID != cluster) {
		return errForeign
	}
	if len(resp.Brokers) == 0 {
		return errors.New("no broker is registered yet")
	}
	if s.Version == "" {
		v, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, c)
		if err != nil {
			return fmt.Errorf("ask for its versions: %w", err)
		}
		s.Version = kversion.FromApiVersionsResponse(v).VersionGuess()
	}
	return nil
}

func startKafka(ctx context.Context, l *launcher, o KafkaOptions) (*KafkaServer, error) {
	dist, err := kafkaDist(ctx, l)
	if errors.Is(err, errNoKafka) {
		fmt.Fprintf(os.Stderr, "\n*** testenv: NO APACHE KAFKA, kfake replaces it and proves less: %v ***\n\n", err)
		return startKfake(ctx, l)
	}
	if err != nil {
		return nil, err
	}
	return dist.start(ctx, l, o)
}

// start formats a directory and boots a broker in it.
func (d *kafkaJars) start(ctx context.Context, l *launcher, o KafkaOptions) (*KafkaServer, error) {
	return startTried(ctx, l, func(ctx context.Context, dir string, port int) (*KafkaServer, error) {
		controller, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		s := &KafkaServer{Brokers: []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, Version: kafkaVersion, Real: true}
		if o.SCRAM {
			login, err := freePort(ctx)
			if err != nil {
				return nil, err
			}
			s.SCRAMBrokers = []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(login))}
			o.Properties = withSCRAM(o.Properties, port, controller, login)
		}
		if o.Authorizer {
			s.Authorizer, o.Properties = true, withAuthorizer(o.Properties)
		}
		cluster := clusterID()
		wipe := func(ctx context.Context) error {
			if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
				return fmt.Errorf("remove logs: %w", err)
			}
			return d.format(ctx, l, dir, cluster)
		}
		s.instance = instance{
			name: "Kafka", dir: dir, wipe: wipe,
			boot: func(ctx context.Context) (*Process, error) { return s.bootOwn(ctx, l, d, cluster) },
		}
		if err := os.WriteFile(filepath.Join(dir, "server.properties"), properties(dir, port, controller, o), 0o600); err != nil {
			return nil, fmt.Errorf("write server.properties: %w", err)
		}
		if err := wipe(ctx); err != nil {
			return nil, err
		}
		return s, s.start(ctx)
	})
}

// withSCRAM adds the listener that wants a login.
func withSCRAM(given map[string]string, port, controller, login int) map[string]string {
	own := map[string]string{
		"listeners":                                          fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d,LOGIN://127.0.0.1:%d", port, controller, login),
		"advertised.listeners":                               fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,LOGIN://127.0.0.1:%d", port, login),
		"listener.security.protocol.map":                     "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT",
		"sasl.enabled.mechanisms":                            "SCRAM-SHA-256",
		"listener.name.login.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
	}
	maps.Copy(own, given)
	return own
}

func (s *KafkaServer) bootOwn(ctx context.Context, l *launcher, d *kafkaJars, cluster string) (*Process, error) {
	cmd := d.java(d.archived(), "kafka.Kafka", filepath.Join(s.dir, "server.properties"))
	p, err := l.start("kafka", cmd, filepath.Join(s.dir, "kafka.log"))
	if err != nil {
		return nil, err
	}
	if err := p.ready(ctx, func(ctx context.Context) error { return s.ask(ctx, cluster) }); err != nil {
		return nil, kill(p, err)
	}
	return p, nil
}

// clusterID makes 22 characters of base64url. One that starts with '-' would look like an option.
func clusterID() string {
	for {
		var b [16]byte
		rand.Read(b[:]) // never fails
		if id := base64.RawURLEncoding.EncodeToString(b[:]); id[0] != '-' {
			return id
		}
	}
}

// sharedKafka returns the options of the broker that tests share. No test kills it, so it is missed late: on a busy machine a
// second without a heartbeat is not a failure, and the controller would fence the only broker.
func sharedKafka() KafkaOptions {
	return KafkaOptions{Properties: map[string]string{"broker.session.timeout.ms": "60000"}, SCRAM: true, Authorizer: true}
}

// properties of a small broker: everything internal has one partition and one copy, groups form at once, and a killed
// broker is missed after two seconds instead of nine.
func properties(dir string, port, controller int, o KafkaOptions) []byte {
	own := map[string]string{
		"process.roles": "broker,controller", "node.id": "1",
		"listeners":                      fmt.Sprintf("PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", port, controller),
		"advertised.listeners":           fmt.Sprintf("PLAINTEXT://127.0.0.1:%d", port),
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name":     "PLAINTEXT", "controller.listener.names": "CONTROLLER",
		"controller.quorum.voters": fmt.Sprintf("1@127.0.0.1:%d", controller),
		"log.dirs":                 filepath.Join(dir, "log"), "auto.create.topics.enable": "false",
		"default.replication.factor": "1", "min.insync.replicas": "1",
		"offsets.topic.num.partitions": "1", "offsets.topic.replication.factor": "1",
		"transaction.state.log.num.partitions": "1", "transaction.state.log.replication.factor": "1",
		"transaction.state.log.min.isr": "1", "share.coordinator.state.topic.num.partitions": "1",
		"share.coordinator.state.topic.replication.factor": "1", "share.coordinator.state.topic.min.isr": "1",
		"group.initial.rebalance.delay.ms": "0", "group.min.session.timeout.ms": "1000",
		"num.network.threads": "2", "num.io.threads": "2", "background.threads": "2", "log.cleaner.threads": "1",
		"log.cleaner.dedupe.buffer.size": "4194304", "log.cleaner.backoff.ms": "500", "log.initial.task.delay.ms": "500",
		"log.retention.check.interval.ms": "1000", "log.index.size.max.bytes": "1048576",
		"broker.heartbeat.interval.ms": "250", "broker.session.timeout.ms": "2000",
	}
	maps.Copy(own, o.Properties)
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(own)) {
		fmt.Fprintf(&b, "%s=%s\n", k, own[k])
	}
	return []byte(b.String())
}
