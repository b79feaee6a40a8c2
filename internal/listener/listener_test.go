package listener_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/listener"
	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const within = 20 * time.Second

// start serves with the configuration; /big has an answer of 64 MiB, /wait one that does not come before the server ends.
func start(t *testing.T, cfg listener.Config) (*listener.Server, string) {
	t.Helper()
	ended := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("GET /big", func(w http.ResponseWriter, _ *http.Request) {
		for range 64 {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /wait", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-ended
	})
	cfg.Handler = mux
	s := listener.New(cfg)
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		close(ended)
		if err := errors.Join(s.Close(), <-done); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

// open connects and sends text.
func open(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

const ask = " HTTP/1.1\r\nHost: localhost\r\n\r\n"

// probe asks for /livez by a new connection.
func probe(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/livez", nil)
	if err != nil {
		return err
	}
	req.Close = true
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || string(text) != "ok" {
		return fmt.Errorf("%q, %w", text, err)
	}
	return nil
}

// closed waits until the server closes c.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("not closed: %v", err)
	}
}

// Connections without a request give way to new ones, the oldest first, so that probes are answered and their number is bounded.
func TestIdleConnectionsGiveWay(t *testing.T) {
	const most = 8
	s, addr := start(t, listener.Config{MaxConns: most})
	first := open(t, addr, "")
	half := open(t, addr, "GET /livez HTTP/1.1\r\nHost:") // its head does not end
	for range 3 * most {
		open(t, addr, "")
		if n := s.Stats().Open; n > most {
			t.Fatalf("%d connections are open, want at most %d", n, most)
		}
	}
	closed(t, first)
	closed(t, half)
	for range 20 {
		if err := probe(t.Context(), addr); err != nil {
			t.Error(err)
		}
	}
	if s.Stats().Displaced == 0 {
		t.Error("no connection was displaced")
	}
}

// Requests that are under way are never ended for others. Where all connections have one, new ones are closed at once.
func TestRequestsKeepTheirConnections(t *testing.T) {
	const most = 4
	s, addr := start(t, listener.Config{MaxConns: most})
	var busy []*bufio.Reader
	for range most {
		c := open(t, addr, "GET /wait"+ask)
		r := bufio.NewReader(c)
		if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "200") {
			t.Fatalf("answer %q, %v", line, err)
		}
		busy = append(busy, r)
	}
	closed(t, open(t, addr, ""))
	if st := s.Stats(); st.Refused != 1 || st.Open != most || st.Displaced != 0 {
		t.Errorf("stats %+v", st)
	}
	for _, r := range busy {
		if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, ":") {
			t.Errorf("a request that was under way ended: %q, %v", line, err)
		}
	}
}

// A client that does not read its answer loses its connection.
func TestAnswersMustBeTaken(t *testing.T) {
	s, addr := start(t, listener.Config{WriteTimeout: 100 * time.Millisecond})
	for range 5 {
		open(t, addr, "GET /big"+ask)
	}
	testenv.Eventually(t, within, func(context.Context) error {
		if n := s.Stats().Open; n > 0 {
			return fmt.Errorf("%d connections are open", n)
		}
		return nil
	})
}
