package admin_test

import (
	"strings"
	"testing"

	"github.com/freshet/freshet/admin/api"
)

// TestNumbersBeyondTheirColumnAreRefused: 65536 must not become 0, which chooses everything.
func TestNumbersBeyondTheirColumnAreRefused(t *testing.T) {
	r := newRig(t, nil)
	r.want(422, "viewer", "GET", "/v1/deadletters?errno=65536", nil)
	r.want(200, "viewer", "GET", "/v1/deadletters?errno=65535", nil)
	r.want(422, "viewer", "GET", "/v1/messages?dataset=items&partition=4294967296", nil)
	r.want(422, "operator", "POST", "/v1/replays", `{"dataset":"items","reason":"a test","action":"redrive","errno":65536}`)
}

// TestHeadOfAStreamEnds: a stream's body has no end.
func TestHeadOfAStreamEnds(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, 1)
	job := r.start(map[string]any{})
	for _, path := range []string{"/v1/invalidations", "/v1/messages/follow?dataset=items", "/v1/replays/" + job.ID + "/events"} {
		if a := r.want(200, "operator", "HEAD", path, nil); a.header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("HEAD %s: %v", path, a.header)
		}
	}
}

// TestEndedReplayIsNotAskedAgain: an EventSource asks again after the end, unless it is answered 204.
func TestEndedReplayIsNotAskedAgain(t *testing.T) {
	r := newRig(t, nil)
	r.publish(1, 1)
	job := r.start(map[string]any{})
	r.replayer("w1", nil)
	r.await(job.ID, "done")
	r.want(204, "viewer", "GET", "/v1/replays/"+job.ID+"/events", nil, "Last-Event-ID", "3")
	r.want(200, "viewer", "GET", "/v1/replays/"+job.ID+"/events", nil)
}

// TestSchemeOfATokenHasAnyCase: RFC 9110 says so of schemes.
func TestSchemeOfATokenHasAnyCase(t *testing.T) {
	r := newRig(t, nil)
	for _, scheme := range []string{"bearer", "BEARER", "Bearer"} {
		r.want(200, "", "GET", "/v1/datasets", nil, "Authorization", scheme+" "+r.tokens["viewer"])
	}
	r.want(401, "", "GET", "/v1/datasets", nil, "Authorization", "Basic "+r.tokens["viewer"])
}

// TestAuditSaysWhatWasAskedFor: the line before a change has its reason, filters and the client; a refused change has a line.
func TestAuditSaysWhatWasAskedFor(t *testing.T) {
	r := newRig(t, nil)
	r.want(200, "operator", "POST", "/v1/deadletters/discards", map[string]any{"dataset": "items", "why": "a test of the log"})
	r.want(403, "viewer", "POST", "/v1/datasets/items/pause", map[string]any{"reason": "not allowed"})
	var log struct{ Items []api.Entry }
	r.want(200, "operator", "GET", "/v1/audit", nil).into(t, &log)
	var before, refused *api.Entry
	for i, e := range log.Items {
		switch e.Outcome {
		case 0:
			before = &log.Items[i]
		case 403:
			refused = &log.Items[i]
		}
	}
	if before == nil || refused == nil {
		t.Fatalf("lines: %+v", log.Items)
	}
	asked, _ := before.Detail["request"].(map[string]any)
	if asked["why"] != "a test of the log" || asked["dataset"] != "items" || before.Detail["client"] != "127.0.0.1" {
		t.Errorf("line before the change: %+v", before)
	}
	if refused.Actor != "viewer-1" || !strings.HasSuffix(refused.Target, "/items/pause") || refused.Detail["client"] != "127.0.0.1" {
		t.Errorf("line of the refused change: %+v", refused)
	}
}

// TestProblemsDoNotEchoTheRequest: what was sent may be personal or secret, and answers are logged.
func TestProblemsDoNotEchoTheRequest(t *testing.T) {
	r := newRig(t, nil)
	for _, a := range []answer{
		r.want(422, "operator", "POST", "/v1/replays", `{"dataset":"items","reason":"a test","rate":"hunter2"}`),
		r.want(422, "operator", "POST", "/v1/datasets/items/pause", `{"reason":["hunter2"]}`),
		r.want(422, "viewer", "GET", "/v1/deadletters?limit=hunter2", nil),
		r.want(422, "publisher", "POST", "/v1/events", `["hunter2"]`, "Content-Type", "application/cloudevents-batch+json"),
		r.want(422, "publisher", "POST", "/v1/events", "["+strings.Repeat("1,", 1000)+`"hunter2"]`, "Content-Type", "application/cloudevents-batch+json"),
	} {
		if strings.Contains(string(a.body), "hunter2") {
			t.Errorf("the answer repeats the request: %s", a.body)
		}
	}
}
