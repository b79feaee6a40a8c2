package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
)

// isDraining wants a process that was asked to end and still answers.
func isDraining(r readiness) error {
	if r.status != http.StatusServiceUnavailable || len(r.Why) != 1 || !strings.Contains(r.Why[0], "draining") {
		return fmt.Errorf("not draining: %d %q", r.status, r.Why)
	}
	return nil
}

func signalled(t *testing.T, p *testenv.Process, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.PID(), s); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the end of a process.
func ended(t *testing.T, p *testenv.Process) error {
	t.Helper()
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		select {
		case <-p.Done():
			return nil
		default:
			return errors.New("it runs")
		}
	})
	return p.Err()
}

// A process that is asked to end says so and works on; a second signal ends it at once.
func TestDrainingProcessWorksUntilTheSecondSignal(t *testing.T) {
	w := itemWorld(t)
	w.env = append(w.env, "FRESHET_DRAIN_DELAY=10h")
	p, api := w.serve("w1")
	own := health(t, p)
	readies(t, own+"/readyz", isReady)
	w.flows(1)
	signalled(t, p, syscall.SIGTERM)
	readies(t, own+"/readyz", isDraining)
	for _, role := range []string{"", "?role=admin", "?role=worker"} {
		readies(t, api+"/readyz"+role, isDraining)
	}
	w.flows(2)
	if status, _, err := fetch(t.Context(), api+"/v1/datasets"); err != nil || status != http.StatusOK {
		t.Errorf("a request while it drains: %d, %v", status, err)
	}
	if _, errOut, code := w.run("", "healthcheck", "serve", "--worker-listen", strings.TrimPrefix(own, "http://"), "--admin-listen", strings.TrimPrefix(api, "http://")); code != 1 || !strings.Contains(errOut, "worker: draining") {
		t.Errorf("healthcheck: exit code %d, %s", code, errOut)
	}
	signalled(t, p, syscall.SIGTERM)
	if err := ended(t, p); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("ended with %v, want the signal", err)
	}
}

// After the delay the process ends by itself, in order.
func TestDrainingEnds(t *testing.T) {
	w := itemWorld(t)
	w.env = append(w.env, "FRESHET_DRAIN_DELAY=2s")
	p, api := w.serve("w1")
	own := health(t, p)
	readies(t, own+"/readyz", isReady)
	workerAt, apiAt := strings.TrimPrefix(own, "http://"), strings.TrimPrefix(api, "http://")
	out := w.mustRun("healthcheck", "serve", "--worker-listen", workerAt, "--admin-listen", apiAt)
	if out != "worker: ok\nadmin: ok\n" {
		t.Errorf("healthcheck: %q", out)
	}
	signalled(t, p, syscall.SIGTERM)
	readies(t, own+"/readyz", isDraining)
	if out := w.mustRun("healthcheck", "--live", "--worker-listen", workerAt); out != "worker: ok\n" {
		t.Errorf("healthcheck --live: %q", out)
	}
	if err := ended(t, p); err != nil {
		t.Errorf("ended with %v", err)
	}
	if _, errOut, code := w.run("", "healthcheck", "--worker-listen", workerAt); code != 1 || !strings.Contains(errOut, "worker does not answer at "+workerAt) {
		t.Errorf("healthcheck after the end: exit code %d, %s", code, errOut)
	}
}
