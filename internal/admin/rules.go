package admin

import (
	"net/http"

	"github.com/freshet/freshet/internal/admin/access"
	"github.com/freshet/freshet/internal/admin/gate"
	"github.com/freshet/freshet/internal/listener"
)

// rules is the table of routes: who may use each, and how. A route that is missing here cannot be served.
func rules() map[string]gate.Rule {
	return map[string]gate.Rule{
		"GET /livez":        {Public: true, Early: true},
		"GET /readyz":       {Public: true, Early: true},
		"GET /metrics":      {Least: access.Viewer, Early: true},
		"GET /openapi.json": {Least: access.Viewer, Early: true},

		"GET /v1/overview":                            {Least: access.Viewer, Early: true},
		"GET /v1/settings":                            {Least: access.Admin, Early: true},
		"POST /v1/doctor":                             {Least: access.Operator, Early: true}, // no Change: it must run while the audit log cannot be written
		"GET /v1/datasets":                            {Least: access.Viewer},
		"GET /v1/datasets/{dataset}":                  {Least: access.Viewer},
		"POST /v1/datasets/{dataset}/check":           {Least: access.Viewer},
		"POST /v1/datasets/{dataset}/pause":           {Least: access.Operator, Change: true},
		"POST /v1/datasets/{dataset}/resume":          {Least: access.Operator, Change: true},
		"GET /v1/lag":                                 {Least: access.Viewer},
		"GET /v1/consistency":                         {Least: access.Viewer},
		"GET /v1/consistency/history":                 {Least: access.Viewer},
		"POST /v1/consistency/verify":                 {Least: access.Operator}, // no Change: it only reads
		"GET /v1/nodes":                               {Least: access.Viewer},
		"POST /v1/nodes/{node}/flush":                 {Least: access.Operator, Change: true},
		"GET /v1/records/{dataset}/{key}":             {Least: access.Viewer},
		"POST /v1/records/{dataset}/{key}/invalidate": {Least: access.Operator, Change: true},
		"GET /v1/messages":                            {Least: access.Viewer},
		"GET /v1/messages/follow":                     {Least: access.Viewer, Stream: true},
		"GET /v1/deadletters":                         {Least: access.Viewer},
		"GET /v1/deadletters/groups":                  {Least: access.Viewer},
		"GET /v1/deadletters/{id}":                    {Least: access.Viewer},
		"POST /v1/deadletters/{id}/edit":              {Least: access.Operator, Change: true, Body: maxEditBody},
		"POST /v1/deadletters/redrives":               {Least: access.Operator, Change: true},
		"POST /v1/deadletters/discards":               {Least: access.Operator, Change: true},
		"POST /v1/events":                             {Least: access.Publisher, Body: gate.MaxPublishBody, Events: true},
		"GET /v1/invalidations":                       {Least: access.Follower, Stream: true},
		"POST /v1/invalidations":                      {Least: access.Publisher, Change: true},
		"POST /v1/replays":                            {Least: access.Operator, Change: true},
		"GET /v1/replays":                             {Least: access.Viewer},
		"GET /v1/replays/{id}":                        {Least: access.Viewer},
		"GET /v1/replays/{id}/events":                 {Least: access.Viewer, Stream: true},
		"POST /v1/replays/{id}/pause":                 {Least: access.Operator, Change: true},
		"POST /v1/replays/{id}/resume":                {Least: access.Operator, Change: true},
		"POST /v1/replays/{id}/cancel":                {Least: access.Operator, Change: true},
		"POST /v1/replays/{id}/limits":                {Least: access.Operator, Change: true},
		"POST /v1/records/{dataset}/{key}/replay":     {Least: access.Operator, Change: true},
		"GET /v1/audit":                               {Least: access.Operator},
		"GET /v1/sd/prometheus":                       {Least: access.Viewer},
	}
}

// routes lays out every route.
func (s *Server) routes() {
	s.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { listener.Readiness{}.Answer(w, false) })
	s.mux.HandleFunc("GET /readyz", s.health.serveReady)
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		b, err := s.OpenAPI()
		if err != nil {
			gate.Problem(w, http.StatusInternalServerError, "the document cannot be written")
			return
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(b)
	})
	if s.cfg.Metrics != nil {
		s.mux.Handle("GET /metrics", s.cfg.Metrics)
	} else {
		s.mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
			gate.Problem(w, http.StatusNotFound, "this process has no metrics")
		})
	}
	s.overview.routes(s.api)
	s.vitals.routes(s.api)
	s.about.routes(s.api)
	s.declared.routes(s.api)
	s.checks.routes(s.api)
	s.records.routes(s.api)
	s.messages.routes(s.api)
	s.letters.routes(s.api)
	s.replays.routes(s.api)
	s.publisher.routes(s.api)
	s.stale.Routes(s.api)
}
