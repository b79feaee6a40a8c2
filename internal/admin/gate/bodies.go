package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// The media types of CloudEvents.
const (
	MediaStructured = "application/cloudevents+json"
	MediaBatch      = "application/cloudevents-batch+json"
)

// Bounds of requests' bodies.
const (
	maxBody = 1 << 20
	// MaxPublishBody is the greatest body of a request that publishes events.
	MaxPublishBody = 8 << 20
	// smallBody is the size up to which a body never waits for larger ones.
	smallBody = 64 << 10
	// heldSmall and heldLarge bound the bytes of small and of large bodies that are held at once.
	heldSmall = 4 << 20
	heldLarge = MaxPublishBody
	// parsedFactor is how often a JSON body counts: it is copied and parsed more than once.
	parsedFactor = 4
	// bodyTurn is how long a request waits for its turn to send its body, bodyRead how long it then has to send it.
	bodyTurn = 10 * time.Second
	bodyRead = 10 * time.Second
)

// bodies bounds the bytes of all requests' bodies that are held at once. A request waits for its turn before its body is read, so
// the client keeps the bytes meanwhile.
type bodies struct {
	small, large *semaphore.Weighted
	held         atomic.Int64
}

func newBodies() *bodies {
	return &bodies{small: semaphore.NewWeighted(heldSmall), large: semaphore.NewWeighted(heldLarge)}
}

// heldBody is a body that was read as a whole.
type heldBody struct {
	*strings.Reader

	text string
}

// Close does nothing.
func (heldBody) Close() error { return nil }

// BodyText returns the whole body of a request that passed the gate.
func BodyText(body io.Reader) string {
	if b, ok := body.(heldBody); ok {
		return b.text
	}
	return ""
}

// hold reads a request's body within the rule's limit, in its turn. release must be called when the request is over. A status
// other than 0 is that of the refusal.
func (b *bodies) hold(w http.ResponseWriter, r *http.Request, ru *Rule) (release func(), status int) {
	limit := ru.bodyLimit()
	size := r.ContentLength
	switch {
	case size == 0 || r.Body == http.NoBody:
		r.Body = http.NoBody
		return func() {}, 0
	case size > limit:
		return nil, http.StatusRequestEntityTooLarge
	case size < 0:
		size = smallBody // the length is not declared: most such bodies are small, too
	}
	body := http.MaxBytesReader(w, r.Body, limit)
	release, ok := b.take(r.Context(), size, ru)
	if !ok {
		return nil, http.StatusServiceUnavailable
	}
	ctl := http.NewResponseController(w)
	_ = ctl.SetReadDeadline(time.Now().Add(bodyRead)) // a connection without deadlines has none
	var text strings.Builder
	text.Grow(int(size))
	n, err := io.Copy(&text, io.LimitReader(body, size))
	if err == nil && n == size && r.ContentLength < 0 {
		release()
		if release, ok = b.take(r.Context(), limit, ru); !ok {
			return nil, http.StatusServiceUnavailable
		}
		_ = ctl.SetReadDeadline(time.Now().Add(bodyRead))
		text.Grow(int(limit - size))
		_, err = io.Copy(&text, body)
	}
	if err != nil {
		release()
		return nil, readStatus(err)
	}
	_ = ctl.SetReadDeadline(time.Time{})
	r.Body = heldBody{strings.NewReader(text.String()), text.String()}
	return release, 0
}

// take waits until size bytes more may be held.
func (b *bodies) take(ctx context.Context, size int64, ru *Rule) (release func(), ok bool) {
	of := b.small
	if size > smallBody {
		of = b.large
		if !ru.Events {
			size = min(size*parsedFactor, heldLarge)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, bodyTurn)
	defer cancel()
	if of.Acquire(ctx, size) != nil {
		return nil, false
	}
	if size >= maxBody {
		runtime.GC() // what the body before left would otherwise stand beside this one for a while
	}
	b.held.Add(size)
	return func() {
		b.held.Add(-size)
		of.Release(size)
	}, true
}

func readStatus(err error) int {
	var tooLarge *http.MaxBytesError
	var timeout net.Error
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &timeout) && timeout.Timeout():
		return http.StatusRequestTimeout
	}
	return http.StatusBadRequest
}

// refuseBody answers a request whose body was refused.
func (g *Gate) refuseBody(w http.ResponseWriter, status int, ru *Rule) {
	switch status {
	case http.StatusRequestEntityTooLarge:
		g.refused.refuse(w, status, refusedBodySize, fmt.Sprintf("the body is too large; this route takes at most %d bytes", ru.bodyLimit()))
	case http.StatusRequestTimeout:
		g.refused.refuse(w, status, refusedBodyTime, "the body did not come within "+bodyRead.String())
	case http.StatusServiceUnavailable:
		g.refused.refuse(w, status, refusedBodyTurn, "too many large bodies are being read; try again")
	default:
		Problem(w, status, "the body could not be read")
	}
}

// mediaProblem returns what is wrong with the content type of a request that has a body; "" is nothing.
func mediaProblem(r *http.Request, ru *Rule) string {
	given := r.Header.Get("Content-Type")
	if given == "" {
		return ""
	}
	media, _, err := mime.ParseMediaType(given)
	switch {
	case ru.Events && r.Header.Get("Ce-Specversion") != "":
		return "" // binary mode: the type is that of the event's data
	case err == nil && ru.Events && (media == MediaBatch || media == MediaStructured):
		return ""
	case ru.Events:
		return "this is not a CloudEvent: the request has no ce-specversion header; or send " + MediaStructured + " or " + MediaBatch
	case err == nil && media == "application/json":
		return ""
	}
	return "send the body as application/json"
}
