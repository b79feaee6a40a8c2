package config_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func origins(l *config.Loaded) map[string]config.Value {
	out := map[string]config.Value{}
	for _, v := range l.Values() {
		out[v.Key] = v
	}
	return out
}

func TestLayersInRisingOrder(t *testing.T) {
	file := write(t, "freshet.yaml", "namespace: from-file\nkafka:\n  group: from-file\n  brokers: [a:1, b:2]\nworker:\n  window: 5m\n")
	fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
	config.Bind(fs, "kafka", "namespace", "worker")
	if err := fs.Parse([]string{"--kafka-client-id", "from-flag", "--worker-hold", "2s"}); err != nil {
		t.Fatal(err)
	}
	l, err := config.Load(config.Source{File: file, Flags: fs, Environ: []string{
		"FRESHET_KAFKA__GROUP=from-env", "FRESHET_KAFKA__CLIENT_ID=from-env", "FRESHET_KAFKA__BROKERS=c:3,d:4", "FRESHET_TEST_KAFKA=x", "HOME=/x",
	}})
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	if c.Namespace != "from-file" || c.Kafka.Group != "from-env" || c.Kafka.ClientID != "from-flag" || fmt.Sprint(c.Kafka.Brokers) != "[c:3 d:4]" ||
		c.Worker.Window != 5*time.Minute || c.Worker.Hold != 2*time.Second || c.Log.Level != "info" {
		t.Fatalf("got %+v", c)
	}
	got := origins(l)
	for key, want := range map[string]string{
		"namespace": "file " + file, "kafka.group": "environment FRESHET_KAFKA__GROUP", "kafka.client_id": "flag --kafka-client-id", "log.level": "default",
	} {
		if got[key].Origin != want {
			t.Errorf("origin of %s: got %q, want %q", key, got[key].Origin, want)
		}
	}
	if got["kafka.brokers"].Value != "c:3,d:4" {
		t.Errorf("brokers shown as %q", got["kafka.brokers"].Value)
	}
}

func TestUnknownSettingsAreRefusedByName(t *testing.T) {
	for _, tc := range []struct{ name, file, env, want string }{
		{"file", "kafka:\n  broker: x\n", "", "kafka.brokers"},
		{"file top", "kafkas: {}\nnope: 1\n", "", `"nope"`},
		{"environment", "", "FRESHET_KAFKA__GROOP=x", "FRESHET_KAFKA__GROOP"},
		{"type", "worker:\n  window: soon\n", "", "window"},
		{"value", "log:\n  level: loud\n", "", "log.level"},
		{"syntax", "a: [", "", "freshet.yaml"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := config.Load(config.Source{File: write(t, "freshet.yaml", tc.file), Environ: []string{tc.env}})
			if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want ErrInvalid that names %s", err, tc.want)
			}
		})
	}
}

func TestSecretsComeFromFilesAndAreNeverShown(t *testing.T) {
	const marker = "s3cr3t-marker"
	l, err := config.Load(config.Source{Environ: []string{
		"FRESHET_MYSQL__DSN_FILE=" + write(t, "dsn", "u:"+marker+"@tcp(h:1)/d\n"), "FRESHET_KAFKA__SASL__MECHANISM=scram-sha-512", "FRESHET_KAFKA__SASL__USERNAME=u", "FRESHET_KAFKA__SASL__PASSWORD=" + marker,
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Config.MySQL.DSN.Reveal(); got != "u:"+marker+"@tcp(h:1)/d" {
		t.Fatalf("dsn not read from its file: %d bytes", len(got))
	}
	j, err := json.Marshal(l.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{fmt.Sprint(l.Config), fmt.Sprintf("%+v %#v", l.Config, l.Config), string(j), fmt.Sprint(l.Values())} {
		if strings.Contains(out, marker) {
			t.Errorf("a secret is shown in %.60q…", out)
		}
	}
	_, err = config.Load(config.Source{Environ: []string{"FRESHET_MYSQL__DSN=x", "FRESHET_MYSQL__DSN_FILE=/nowhere"}})
	if !errors.Is(err, config.ErrInvalid) {
		t.Errorf("both dsn and dsn_file: got %v", err)
	}
}

func TestSecretsHaveNoFlags(t *testing.T) {
	fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
	config.Bind(fs, "kafka", "mysql", "redis")
	for _, name := range []string{"mysql-dsn", "redis-url", "kafka-sasl-password"} {
		if fs.Lookup(name) != nil {
			t.Errorf("flag --%s shows a secret to everybody on the machine", name)
		}
	}
	if fs.Lookup("mysql-dsn-file") == nil {
		t.Error("flag --mysql-dsn-file is missing")
	}
}

// TestKubernetesServiceLinksAreNoSettings: pods beside a Service named freshet have them in their environment.
func TestKubernetesServiceLinksAreNoSettings(t *testing.T) {
	environ := []string{
		"FRESHET_PORT=tcp://10.0.0.1:7788", "FRESHET_SERVICE_HOST=10.0.0.1", "FRESHET_SERVICE_PORT=7788", "FRESHET_SERVICE_PORT_HTTP=7788",
		"FRESHET_PORT_7788_TCP=tcp://10.0.0.1:7788", "FRESHET_PORT_7788_TCP_PROTO=tcp", "FRESHET_PORT_7788_TCP_PORT=7788", "FRESHET_PORT_7788_TCP_ADDR=10.0.0.1",
		"FRESHET_ADMIN_SERVICE_HOST=10.0.0.2", "FRESHET_ADMIN_PORT=tcp://10.0.0.2:7789",
	}
	l, err := config.Load(config.Source{Environ: append(environ, "FRESHET_NAMESPACE=shop")})
	if err != nil || l.Config.Namespace != "shop" {
		t.Errorf("namespace %q, %v", l.Config.Namespace, err)
	}
	if _, err := config.Load(config.Source{Environ: []string{"FRESHET_PRT=1"}}); err == nil {
		t.Error("an unknown setting is taken")
	}
}
