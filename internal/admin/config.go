package admin

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// Defaults of a Config.
const (
	DefaultListen = "127.0.0.1:7789"
	// DefaultRate is how many requests a second one token gets.
	DefaultRate = 100
	// DefaultPublishRate is how many requests a second that publish one token gets. Each may have up to 1000 events.
	DefaultPublishRate = 1000
)

// ErrConfig comes, wrapped, from New when a field of a Config is missing or unsafe.
var ErrConfig = errors.New("configuration of the admin API")

// Producer appends to Kafka. *producer.Producer has it.
type Producer interface {
	// Check returns events as Publish would send them, with their ids; errors wrap schemas.ErrInvalid.
	Check(events ...schemas.Event) ([]schemas.Event, error)
	// Publish checks and appends all events; errors that wrap schemas.ErrInvalid are the caller's fault.
	Publish(ctx context.Context, events ...schemas.Event) (schemas.Token, error)
	// Invalidate appends to the topic that carries other writers' invalidations.
	Invalidate(ctx context.Context, namespace string, names, tags []string) (schemas.Token, error)
}

// Config of a Server. Datasets, Namespace, Group and Kafka are required; the zero value of every other field works.
type Config struct {
	// Listen is the address; "" means DefaultListen. An address that is not loopback needs Tokens.
	Listen string
	// Tokens know who may do what; nil: no authentication, and everybody on this machine may do everything.
	Tokens *access.TokenFile
	// TLS encrypts the listener; nil: plain HTTP. With ClientCAs, clients show certificates beside their token.
	TLS *tls.Config
	// Rate is how many requests a second one token gets; 0 means DefaultRate. Requests that publish do not count.
	Rate float64
	// PublishRate is how many requests a second that publish events or invalidations one token gets; 0 means DefaultPublishRate.
	PublishRate float64
	// Drain is how long the server continues, unready, before it closes; 0 means not at all.
	Drain time.Duration

	// Datasets are what is shown and published.
	Datasets *schemas.Datasets
	// Namespace and Group are the workers'.
	Namespace, Group string
	// Kafka reads topics and positions.
	Kafka *kafkalog.Client
	// Replica is the database that the workers write; nil until Attach has it.
	Replica *replica.DB
	// Redis holds shared entries and knows the nodes; nil: none is used, because no dataset is cached.
	Redis redis.UniversalClient
	// Lanes is the namespace's number of lanes; 0 means 1.
	Lanes int
	// Producer takes events and invalidations; nil: both are refused.
	Producer Producer
	// Metrics answers /metrics; nil: there are none.
	Metrics http.Handler
	// Beside is the readiness of the rest of the process; nil: there is nothing else.
	Beside func() listener.Readiness
	// Warnings lists what needs attention although the process is ready; nil: nothing is asked.
	Warnings func() []string
	// Waiting lists what the process waits for before it can call Attach; nil: nothing is asked.
	Waiting func() []string
	// Front makes the handler in front of the API, such as the console, which passes on what is not its own. Its requests to api are no requests of
	// the network, so they are not logged; the gate sees them all. draining ends when Run does. nil: there is none.
	Front func(api http.Handler, draining context.Context) (http.Handler, error)
	// Settings lists the settings of the process, secrets masked; nil: none are shown.
	Settings func() []api.Setting
	// Folder is where the declarations are stored, to show their texts and to check proposed ones; nil: neither.
	Folder fs.FS
	// Outbox returns the state of the source's outbox; nil: it is not known.
	Outbox func(ctx context.Context) (api.Outbox, error)
	// Doctor looks at every hop and returns what it finds; canary: it sends one through them all. nil: there is none.
	Doctor func(ctx context.Context, canary bool) ([]api.Finding, error)
	// Version is shown in the OpenAPI document.
	Version string
	// TracerProvider records a span for each request whose caller's trace is recorded; nil: none.
	TracerProvider trace.TracerProvider
	// Logger; nil discards.
	Logger *slog.Logger
}

func (c *Config) fill() error {
	if c.Listen == "" {
		c.Listen = DefaultListen
	}
	if err := listener.CheckAddress("admin.listen", c.Listen, c.Tokens != nil, "make tokens with `freshet admin token` and set admin.tokens_file"); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	for field, absent := range map[string]bool{
		"Datasets": c.Datasets == nil, "Namespace": c.Namespace == "", "Group": c.Group == "", "Kafka": c.Kafka == nil,
	} {
		if absent {
			return fmt.Errorf("%w: %s is missing", ErrConfig, field)
		}
	}
	if c.Rate < 0 || c.PublishRate < 0 {
		return fmt.Errorf("%w: Rate is %v and PublishRate %v; neither may be negative", ErrConfig, c.Rate, c.PublishRate)
	}
	if c.TLS != nil {
		c.TLS = c.TLS.Clone()
		c.TLS.MinVersion = max(c.TLS.MinVersion, tls.VersionTLS12)
	}
	c.Rate = cmp.Or(c.Rate, DefaultRate)
	c.PublishRate = cmp.Or(c.PublishRate, DefaultPublishRate)
	c.Lanes = max(c.Lanes, 1)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
