package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

const (
	// kfakeVar makes this executable a kfake broker on the port that it holds; kfakeDir and kfakeCluster go with it.
	kfakeVar     = "FRESHET_TEST_KFAKE_PORT"
	kfakeDir     = "FRESHET_TEST_KFAKE_DIR"
	kfakeCluster = "FRESHET_TEST_KFAKE_CLUSTER"
	// kfakeNote goes to test processes beside KafkaVar when the broker there is kfake.
	kfakeNote = "FRESHET_TEST_KFAKE"
)

// startKfake runs kfake in a child of its own, so that it can be killed and stopped like the real one: this executable,
// started again, becomes it in Main.
func startKfake(ctx context.Context, l *launcher) (*KafkaServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this executable: %w", err)
	}
	return startTried(ctx, l, func(ctx context.Context, dir string, port int) (*KafkaServer, error) {
		data, cluster := filepath.Join(dir, "data"), clusterID()
		s := &KafkaServer{Brokers: []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}, Version: "kfake"}
		boot := func(ctx context.Context) (*Process, error) {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), kfakeVar+"="+strconv.Itoa(port), kfakeDir+"="+data, kfakeCluster+"="+cluster)
			p, err := l.start("kfake", cmd, filepath.Join(dir, "kfake.log"))
			if err != nil {
				return nil, err
			}
			if err := p.ready(ctx, func(ctx context.Context) error { return s.ask(ctx, cluster) }); err != nil {
				return nil, kill(p, err)
			}
			return p, nil
		}
		s.instance = instance{
			name: "kfake", dir: dir, boot: boot,
			wipe: func(context.Context) error { return os.RemoveAll(data) },
		}
		return s, s.start(ctx)
	})
}

// kfakeChild is the other side: it serves until it is asked to end.
func kfakeChild() (code int, child bool) {
	port, err := strconv.Atoi(os.Getenv(kfakeVar))
	if err != nil {
		return 0, false
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.ClusterID(os.Getenv(kfakeCluster)),
		kfake.DataDir(os.Getenv(kfakeDir)), kfake.SyncWrites())
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv: start kfake:", err)
		return 1, true
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
	c.Close()
	return 0, true
}
