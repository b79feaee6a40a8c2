package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
)

// A worker is listed with its state, works on while the registry is away, and leaves it as soon as it drains.
func TestWorkerIsListed(t *testing.T) {
	etcd := testenv.StartEtcd(t)
	w := itemWorld(t)
	w.env = append(w.env, "FRESHET_DRAIN_DELAY=10h", "FRESHET_REGISTRY__KIND=etcd", "FRESHET_REGISTRY__ENDPOINTS="+etcd.Endpoint, "FRESHET_REGISTRY__TTL=3s")
	_, errOut, code := w.run("", "worker", "--worker-id", "w-0", "--worker-listen", "127.0.0.1:0")
	if code != 2 || !strings.Contains(errOut, "worker.advertise") {
		t.Errorf("without an address for others: exit code %d, %s", code, errOut)
	}
	w.env = append(w.env, "FRESHET_WORKER__ADVERTISE=w1.internal:7788")
	p, _ := w.serve("w-1")
	own := health(t, p)
	readies(t, own+"/readyz", isReady)
	key := "freshet/" + w.ns + "/worker/w-1"
	etcd.AwaitKey(t, key, `"address":"w1.internal:7788"`)
	etcd.AwaitKey(t, key, `"status":"passing"`)
	w.flows(1)
	etcd.Kill(t)
	readies(t, own+"/readyz", func(r readiness) error {
		if r.status != http.StatusOK || !strings.Contains(strings.Join(r.Why, " "), "registry") {
			return fmt.Errorf("not degraded: %d %q", r.status, r.Why)
		}
		return nil
	})
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		page, err := healthPage(ctx, p, "/metrics")
		if err == nil && (!strings.Contains(page, `freshet_registry_listed{component="worker"} 0`) || strings.Contains(page, `freshet_registry_failures_total{component="worker"} 0`)) {
			err = errors.New("the metrics do not show it")
		}
		return err
	})
	w.flows(2)
	etcd.Restart(t)
	etcd.AwaitKey(t, key, `"status":"passing"`)
	signalled(t, p, syscall.SIGTERM)
	etcd.AwaitKey(t, key, "")
	readies(t, own+"/readyz", isDraining)
	w.flows(3)
}

// Settings of the registry that cannot work end the worker with what is wrong.
func TestWorkerRefusesARegistry(t *testing.T) {
	w := itemWorld(t)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, env := range map[string][]string{
		"kind is unknown":       {"FRESHET_REGISTRY__KIND=zookeeper"},
		"endpoints is empty":    {"FRESHET_REGISTRY__KIND=etcd"},
		"endpoints has several": {"FRESHET_REGISTRY__KIND=consul", "FRESHET_REGISTRY__ENDPOINTS=http://a:1,http://b:1"},
		"ttl is below 3s":       {"FRESHET_REGISTRY__KIND=consul", "FRESHET_REGISTRY__TTL=1s"},
		"registry.token_file":   {"FRESHET_REGISTRY__KIND=consul", "FRESHET_REGISTRY__TOKEN_FILE=" + empty},
		"go together":           {"FRESHET_REGISTRY__KIND=etcd", "FRESHET_REGISTRY__ENDPOINTS=http://a:1", "FRESHET_REGISTRY__USERNAME=u"},
		"secret unencrypted":    {"FRESHET_REGISTRY__KIND=consul", "FRESHET_REGISTRY__ENDPOINTS=http://agent.internal:8500", "FRESHET_REGISTRY__TOKEN_FILE=" + empty},
		"not a URL":             {"FRESHET_REGISTRY__KIND=etcd", "FRESHET_REGISTRY__ENDPOINTS=a:1"},
	} {
		before := w.env
		w.env = append(w.env[:len(w.env):len(w.env)], env...)
		if _, errOut, code := w.run("", "worker", "--worker-listen", "127.0.0.1:0"); code != 2 || !strings.Contains(errOut, want) {
			t.Errorf("%v: exit code %d, %s", env, code, errOut)
		}
		w.env = before
	}
}

// A relay and the admin API are listed, too, and leave when they end. Doctor finds a registry that lacks a kind of process, or is away.
func TestRelayAndAPIAreListed(t *testing.T) {
	etcd := testenv.StartEtcd(t)
	w := itemWorld(t)
	w.source()
	w.env = append(w.env, "FRESHET_REGISTRY__KIND=etcd", "FRESHET_REGISTRY__ENDPOINTS="+etcd.Endpoint, "FRESHET_WORKER__ADVERTISE=w1.internal:7788")
	for _, role := range []string{"relay", "admin"} {
		if _, errOut, code := w.run("", role); code != 2 || !strings.Contains(errOut, role+".advertise") {
			t.Errorf("%s without an address for others: exit code %d, %s", role, code, errOut)
		}
	}
	w.env = append(w.env, "FRESHET_RELAY__ADVERTISE=r1.internal:7790", "FRESHET_ADMIN__ADVERTISE=https://a1.internal:7789")
	found := func(want ...string) {
		t.Helper()
		testenv.Eventually(t, settleLimit, func(context.Context) error {
			var got []string
			for _, f := range w.doctor("--no-canary") {
				if strings.HasPrefix(f.Name, "registry-") {
					got = append(got, strings.TrimSpace(f.Name+" "+f.Where))
				}
			}
			if !slices.Equal(got, want) {
				return fmt.Errorf("doctor finds %q, want %q", got, want)
			}
			return nil
		})
	}
	found("registry-lacks worker", "registry-lacks relay", "registry-lacks admin")
	w.startWorker()
	relay := w.startRelay("r1")
	w.api()
	etcd.AwaitKey(t, "freshet/"+w.ns+"/relay/r1", `"address":"r1.internal:7790","version":`)
	found()
	signalled(t, relay, syscall.SIGTERM)
	etcd.AwaitKey(t, "freshet/"+w.ns+"/relay/r1", "")
	found("registry-lacks relay")
	signalled(t, w.admin, syscall.SIGTERM)
	found("registry-lacks relay", "registry-lacks admin")
	etcd.Kill(t)
	found("registry-unreachable")
}
