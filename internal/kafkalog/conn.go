package kafkalog

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"

	"github.com/freshet/freshet/internal/kafkalog/wire"
)

const (
	// dialTimeout bounds TCP, TLS, ApiVersions and SASL together.
	dialTimeout = 5 * time.Second
	// requestTimeout bounds a request that brings no shorter deadline of its own.
	requestTimeout = 10 * time.Second
	// keepAlive finds brokers that vanished silently.
	keepAlive = 30 * time.Second
	// maxFrame is refused before anything is allocated for it.
	maxFrame = 64 << 20
)

// versionRange is what a broker says it accepts of one API.
type versionRange struct{ min, max int16 }

// Conn is one authenticated connection to one broker. One goroutine uses it at a time; after an error it is of no more
// use and must be closed.
type Conn struct {
	net      *protocol.Conn
	addr     string
	clientID string
	corr     int32
	versions map[int16]versionRange
	buf      []byte // reply frames of raw
	sasl     SASL
	// renew is when to authenticate again, before the broker closes the connection; zero if it never does.
	renew time.Time
}

// Dial connects to addr, asks what the broker speaks and authenticates.
func (c *Client) Dial(ctx context.Context, addr string) (*Conn, error) {
	if c.closed.Load() {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := c.open(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	k := &Conn{net: protocol.NewConn(nc, c.cfg.ClientID), addr: addr, clientID: c.cfg.ClientID, sasl: c.cfg.SASL}
	if err := k.hello(ctx); err != nil {
		_ = k.Close()
		return nil, fmt.Errorf("greet broker %s: %w", addr, err)
	}
	return k, nil
}

// hello runs ApiVersions and, with a mechanism, SASL.
func (k *Conn) hello(ctx context.Context) error {
	res, err := k.RoundTrip(ctx, 0, &apiversions.Request{})
	if err != nil {
		return fmt.Errorf("ask versions: %w", err)
	}
	av := res.(*apiversions.Response)
	if av.ErrorCode != 0 {
		return fmt.Errorf("ask versions: %w", kafka.Error(av.ErrorCode))
	}
	k.versions = make(map[int16]versionRange, len(av.ApiKeys))
	for _, a := range av.ApiKeys {
		k.versions[a.ApiKey] = versionRange{a.MinVersion, a.MaxVersion}
	}
	if k.sasl.Mechanism == "" {
		return nil
	}
	return k.authenticate(ctx)
}

// reauthenticate keeps a connection whose authentication is about to run out.
func (k *Conn) reauthenticate(ctx context.Context) error {
	if k.renew.IsZero() || time.Now().Before(k.renew) {
		return nil
	}
	k.renew = time.Time{}
	return k.authenticate(ctx)
}

func (k *Conn) authenticate(ctx context.Context) error {
	started := time.Now()
	mechanism, err := k.sasl.mechanism(ctx)
	if err != nil {
		return fmt.Errorf("authenticate: %w", err)
	}
	lifetime, err := k.converse(ctx, mechanism)
	if err != nil {
		return fmt.Errorf("authenticate with %s: %w", mechanism.Name(), err)
	}
	if lifetime > 0 {
		k.renew = started.Add(lifetime * 8 / 10)
	}
	return nil
}

// converse returns how long the authentication is good for, 0 without limit.
func (k *Conn) converse(ctx context.Context, mechanism sasl.Mechanism) (lifetime time.Duration, err error) {
	res, err := k.RoundTrip(ctx, 1, &saslhandshake.Request{Mechanism: mechanism.Name()})
	if err != nil {
		return 0, err
	}
	if code := res.(*saslhandshake.Response).ErrorCode; code != 0 {
		return 0, kafka.Error(code)
	}
	host, port := splitAddr(k.addr)
	state, msg, err := mechanism.Start(sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: port}))
	if err != nil {
		return 0, err
	}
	for done := false; !done; {
		res, err := k.RoundTrip(ctx, 1, &saslauthenticate.Request{AuthBytes: msg})
		if err != nil {
			return 0, err
		}
		auth := res.(*saslauthenticate.Response)
		if code := kafka.Error(auth.ErrorCode); code == kafka.SASLAuthenticationFailed {
			return 0, fmt.Errorf("%w; correct user and password, or the token", code)
		} else if code != 0 {
			return 0, code
		}
		if done, msg, err = state.Next(ctx, auth.AuthBytes); err != nil {
			return 0, err
		}
		lifetime = time.Duration(auth.SessionLifetimeMs) * time.Millisecond
	}
	return lifetime, nil
}

// RoundTrip sends req in that version and waits for its reply, until ctx ends or requestTimeout is over.
func (k *Conn) RoundTrip(ctx context.Context, version int16, req protocol.Message) (protocol.Message, error) {
	return k.Ask(ctx, requestTimeout, version, req)
}

// Ask is RoundTrip with a limit of its own.
func (k *Conn) Ask(ctx context.Context, limit time.Duration, version int16, req protocol.Message) (protocol.Message, error) {
	if err := k.reauthenticate(ctx); err != nil {
		return nil, err
	}
	defer k.guard(ctx, limit)()
	k.corr++
	res, err := protocol.RoundTrip(k.net, version, k.corr, k.clientID, req)
	if err != nil {
		return nil, k.fail(ctx, "request", err)
	}
	return res, nil
}

// send writes req and returns the body of the reply as raw bytes, which are valid until the next call. limit bounds the
// wait when ctx does not.
func (k *Conn) send(ctx context.Context, limit time.Duration, version int16, req protocol.Message) ([]byte, error) {
	if err := k.reauthenticate(ctx); err != nil {
		return nil, err
	}
	defer k.guard(ctx, limit)()
	k.corr++
	if err := protocol.WriteRequest(k.net, version, k.corr, k.clientID, req); err != nil {
		return nil, k.fail(ctx, "write request", err)
	}
	return k.readFrame(ctx)
}

// raw sends a hand-made body, for versions that the protocol library does not know, and returns the body of the reply,
// which is valid until the next call. flexible reports whether the request has a header with tags; the reply's header tags
// stay in the body.
func (k *Conn) raw(ctx context.Context, api protocol.ApiKey, version int16, flexible bool, body []byte) ([]byte, error) {
	if err := k.reauthenticate(ctx); err != nil {
		return nil, err
	}
	defer k.guard(ctx, requestTimeout)()
	k.corr++
	b := make([]byte, 4, 4+11+len(k.clientID)+len(body))
	b = binary.BigEndian.AppendUint16(b, uint16(api))
	b = binary.BigEndian.AppendUint16(b, uint16(version))
	b = binary.BigEndian.AppendUint32(b, uint32(k.corr))
	b = binary.BigEndian.AppendUint16(b, uint16(len(k.clientID)))
	b = append(b, k.clientID...)
	if flexible {
		b = append(b, 0)
	}
	b = append(b, body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	if _, err := k.net.Write(b); err != nil {
		return nil, k.fail(ctx, "write request", err)
	}
	return k.readFrame(ctx)
}

// readFrame reads "size i32 | correlation i32 | body" and returns the body.
func (k *Conn) readFrame(ctx context.Context) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(k.net, head[:]); err != nil {
		return nil, k.fail(ctx, "read reply", err)
	}
	n := int(int32(binary.BigEndian.Uint32(head[:]))) - 4
	if n < 0 || n > maxFrame {
		return nil, fmt.Errorf("read reply of broker %s: %w: length %d", k.addr, wire.ErrMalformed, n)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != k.corr {
		return nil, fmt.Errorf("read reply of broker %s: %w: correlation %d, want %d", k.addr, wire.ErrMalformed, got, k.corr)
	}
	if cap(k.buf) < n {
		k.buf = make([]byte, n)
	}
	b := k.buf[:n]
	if _, err := io.ReadFull(k.net, b); err != nil {
		return nil, k.fail(ctx, "read reply", err)
	}
	return b, nil
}

// guard bounds what follows by ctx and limit; the function that it returns must be called when that is done.
func (k *Conn) guard(ctx context.Context, limit time.Duration) func() bool {
	until := time.Now().Add(limit)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	_ = k.net.SetDeadline(until)
	return context.AfterFunc(ctx, func() { _ = k.net.SetDeadline(time.Unix(1, 0)) })
}

// fail names what went wrong; when ctx ended, that is the cause. The connection may notice ctx's deadline first.
func (k *Conn) fail(ctx context.Context, what string, err error) error {
	if d, ok := ctx.Deadline(); ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if ok && !time.Now().Before(d) {
		err = context.DeadlineExceeded
	}
	return fmt.Errorf("%s of broker %s: %w", what, k.addr, err)
}

// Close closes the connection.
func (k *Conn) Close() error { return k.net.Close() }

func splitAddr(addr string) (host string, port int) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, 0
	}
	port, _ = strconv.Atoi(p)
	return host, port
}

// spokenVersion is one version of one API that Freshet sends.
type spokenVersion struct {
	api     protocol.ApiKey
	version int16
	use     string
}

// spokenVersions are what every broker must accept. A broker
// reports that it takes Produce from 0 on while it does not, so that only its upper bound means anything.
func spokenVersions() []spokenVersion {
	return []spokenVersion{
		{protocol.ApiVersions, 0, "connect"},
		{protocol.Metadata, minMetadata, "topic ids"},
		{protocol.Produce, 8, "produce"},
		{protocol.InitProducerId, 4, "produce"},
		{protocol.Fetch, fetchVersion, "fetch"},
		{protocol.ListOffsets, 5, "fetch"},
		{protocol.FindCoordinator, 2, "group"},
		{protocol.JoinGroup, 4, "group"},
		{protocol.SyncGroup, 2, "group"},
		{protocol.Heartbeat, 0, "group"},
		{protocol.LeaveGroup, 0, "group"},
		{protocol.OffsetCommit, 5, "group"},
		{protocol.OffsetFetch, 5, "group"},
		{protocol.DescribeGroups, 3, "group"},
		{protocol.CreateTopics, 4, "topics"},
		{protocol.DeleteTopics, 3, "topics"},
		{protocol.DescribeConfigs, 1, "topics"},
	}
}

// CheckVersions asks one broker what it speaks and says, one text each, what Freshet sends and it does not take. Nothing
// to say means an empty list.
func (c *Client) CheckVersions(ctx context.Context) ([]string, error) {
	k, err := c.bootstrap(ctx)
	if err != nil {
		return nil, fmt.Errorf("check versions: %w", err)
	}
	defer func() { _ = k.Close() }()
	var out []string
	for _, v := range spokenVersions() {
		r, ok := k.versions[int16(v.api)]
		if !ok || v.version > r.max || v.version < r.min {
			out = append(out, fmt.Sprintf("%s version %d (%s) is not among %d to %d of broker %s",
				v.api, v.version, v.use, r.min, r.max, k.addr))
		}
	}
	return out, nil
}
