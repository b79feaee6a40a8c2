package invalidation

import (
	"io"
	"net/http"
	"strings"
)

// CheckHandler returns a handler that tells a balancer whether the node serves from memory: 204 while NotReady is empty, and
// 503 with one of its reasons per line otherwise. Give it a path of its own, apart from the service's readiness, and let the
// balancer use it to prefer nodes only as long as enough of them answer 204: when Redis is away none does, and each of them
// still answers its requests correctly. The handler is safe for concurrent use, and costs no look at Redis.
func (n *Node) CheckHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		reasons := n.NotReady()
		if len(reasons) == 0 {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, strings.Join(reasons, "\n")+"\n") // the balancer looks at the status
	})
}
