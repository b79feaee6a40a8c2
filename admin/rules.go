package admin

import "net/http"

// rules is the table of routes: who may use each, and how. A route that is missing here cannot be served.
func rules() map[string]rule {
	return map[string]rule{
		"GET /livez":        {public: true},
		"GET /readyz":       {public: true},
		"GET /metrics":      {least: Viewer},
		"GET /openapi.json": {least: Viewer},

		"GET /v1/datasets":                            {least: Viewer},
		"POST /v1/datasets/{dataset}/pause":           {least: Operator, change: true},
		"POST /v1/datasets/{dataset}/resume":          {least: Operator, change: true},
		"GET /v1/lag":                                 {least: Viewer},
		"GET /v1/consistency":                         {least: Viewer},
		"GET /v1/nodes":                               {least: Viewer},
		"POST /v1/nodes/{node}/flush":                 {least: Operator, change: true},
		"GET /v1/records/{dataset}/{key}":             {least: Viewer},
		"POST /v1/records/{dataset}/{key}/invalidate": {least: Operator, change: true},
		"GET /v1/messages":                            {least: Viewer},
		"GET /v1/messages/follow":                     {least: Viewer, stream: true},
		"GET /v1/deadletters":                         {least: Viewer},
		"GET /v1/deadletters/groups":                  {least: Viewer},
		"GET /v1/deadletters/{id}":                    {least: Viewer},
		"POST /v1/deadletters/{id}/edit":              {least: Operator, change: true, body: maxEditBody},
		"POST /v1/deadletters/redrives":               {least: Operator, change: true},
		"POST /v1/deadletters/discards":               {least: Operator, change: true},
		"POST /v1/events":                             {least: Publisher, body: maxPublishBody, events: true},
		"GET /v1/invalidations":                       {least: Follower, stream: true},
		"POST /v1/invalidations":                      {least: Publisher, change: true},
		"POST /v1/replays":                            {least: Operator, change: true},
		"GET /v1/replays":                             {least: Viewer},
		"GET /v1/replays/{id}":                        {least: Viewer},
		"GET /v1/replays/{id}/events":                 {least: Viewer, stream: true},
		"POST /v1/replays/{id}/pause":                 {least: Operator, change: true},
		"POST /v1/replays/{id}/resume":                {least: Operator, change: true},
		"POST /v1/replays/{id}/cancel":                {least: Operator, change: true},
		"POST /v1/replays/{id}/limits":                {least: Operator, change: true},
		"POST /v1/records/{dataset}/{key}/replay":     {least: Operator, change: true},
		"GET /v1/audit":                               {least: Operator},
		"GET /v1/sd/prometheus":                       {least: Viewer},
	}
}

// bare are the routes outside the OpenAPI document.
var bare = map[string]bool{ //nolint:gochecknoglobals // a table of constants
	"GET /livez": true, "GET /readyz": true, "GET /metrics": true, "GET /openapi.json": true,
}

// routes lays out every route.
func (s *Server) routes() {
	s.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answerState(w, http.StatusOK, nil, nil) })
	s.mux.HandleFunc("GET /readyz", s.health.serveReady)
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		b, err := s.OpenAPI()
		if err != nil {
			problem(w, http.StatusInternalServerError, "the document cannot be written")
			return
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(b)
	})
	if s.cfg.Metrics != nil {
		s.mux.Handle("GET /metrics", s.cfg.Metrics)
	} else {
		s.mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
			problem(w, http.StatusNotFound, "this process has no metrics")
		})
	}
	s.overview.routes(s.api)
	s.records.routes(s.api)
	s.messages.routes(s.api)
	s.letters.routes(s.api)
	s.replays.routes(s.api)
	s.publisher.routes(s.api)
	s.stale.routes(s.api)
}
