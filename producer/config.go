package producer

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/schemas"
)

// Defaults of a Config.
const (
	DefaultSource           = "//freshet/producer"
	DefaultClientID         = kafkalog.DefaultClientID
	DefaultDeliveryTimeout  = delivery.DefaultDeliveryTimeout
	DefaultMaxBufferedBytes = delivery.DefaultMaxBuffered
	DefaultLinger           = delivery.DefaultLinger
	DefaultCloseTimeout     = 10 * time.Second
)

// SASL is how a client authenticates to the brokers: Mechanism is plain, scram-sha-256, scram-sha-512 or oauthbearer (Password is the token), with User and Password, or
// with Credentials, a function that returns both for each authentication, so that a replaced password is used. A worker has the
// same in consumer.Kafka.
type SASL = kafkalog.SASL

// Config of a Producer. The zero value of every field but Brokers and Datasets works.
type Config struct {
	// Brokers are host:port addresses to start from; the others are learned. Required.
	Brokers []string
	// Datasets that may be published to. Required.
	Datasets *schemas.Datasets
	// Source is the URI reference of events that bring none, such as "//shop/db"; "" means DefaultSource.
	Source string
	// ClientID names this program to the brokers; "" means DefaultClientID.
	ClientID string
	// TLS, if not nil, encrypts every connection. An empty ServerName means the broker's host.
	TLS *tls.Config
	// GetTLS, if not nil, takes the place of TLS and is called for each new connection, so that replaced certificates and
	// authorities are used.
	GetTLS func() *tls.Config
	// SASL authenticates every connection; the zero value does not.
	SASL SASL
	// DeliveryTimeout bounds the time in which Kafka must take an event, tries included; 0 means DefaultDeliveryTimeout.
	DeliveryTimeout time.Duration
	// MaxBufferedBytes bounds the events that wait for an answer. Encoding takes up to 1 MB more per partition in use. 0
	// means DefaultMaxBufferedBytes.
	MaxBufferedBytes int
	// Linger is how long a batch waits for more events while they come in streams; a lone event never waits. 0 means
	// DefaultLinger, negative none.
	Linger time.Duration
	// Compression of batches: none, gzip, snappy, lz4 or zstd; "" means none.
	Compression string
	// CloseTimeout is how long Close waits for events under way; 0 means DefaultCloseTimeout.
	CloseTimeout time.Duration
	// TracerProvider records a span for each event that is published; nil: none. An event without a TraceParent carries the span of the
	// context on, or that of its publication, if it is sampled.
	TracerProvider trace.TracerProvider
	// Logger reports recoveries; nil discards.
	Logger *slog.Logger
}

// check completes the configuration and refuses what cannot work.
func (c Config) check() (Config, recordbatch.Compression, error) {
	if c.CloseTimeout < 0 {
		return c, 0, fmt.Errorf("check CloseTimeout %s: must not be negative; 0 means %s", c.CloseTimeout, DefaultCloseTimeout)
	}
	codec, err := recordbatch.ParseCompression(c.Compression)
	if err != nil {
		return c, 0, err
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = DefaultCloseTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, codec, nil
}
