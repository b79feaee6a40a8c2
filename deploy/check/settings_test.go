package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
)

// TestSettingsAreUnderstood loads the chart's settings file with freshet itself: a name that it does not know is an error.
func TestSettingsAreUnderstood(t *testing.T) {
	values := read(t, `
settings: {namespace: shop, kafka: {brokers: [kafka:9092], sasl: {mechanism: scram-sha-512, username: freshet}}, worker: {writers: 4}}
datasets: {existingConfigMap: d}
secrets:
  existingSecret: freshet
  keys: {kafkaPassword: kafka-password, relayDSN: relay-dsn, kafkaCA: ca.pem, mysqlCA: ca.pem, redisCA: ca.pem, tlsCert: tls.crt, tlsKey: tls.key}
`)
	objects, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"mysql-dsn": "u:p@tcp(mysql:3306)/freshet", "relay-dsn": "u:p@tcp(mysql:3306)/shop", "redis-url": "redis://u:p@redis:6379/0", "kafka-password": "p",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := objects["ConfigMap shop-freshet-settings"].(*core.ConfigMap).Data["freshet.yaml"]
	file := filepath.Join(dir, "freshet.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/etc/freshet/secrets/", dir+"/")), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "run", "./cmd/freshet", "config", "--config", file)
	cmd.Dir = "../.."
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, text)
	}
	for _, want := range []string{"worker.listen  0.0.0.0:7788", "kafka.group  freshet-shop", "kafka.tls.enabled  true", "redis.tls.enabled  true", "mysql.dsn  ***", "worker.writers  4"} {
		if !strings.Contains(strings.Join(strings.Fields(string(out)), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
}

// TestUnits verifies the units with systemd's own program, where it is installed.
func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "freshet")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	units, err := filepath.Glob("../systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatalf("%d units, %v", len(units), err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		part := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(unit), "freshet-"), ".service")
		if !strings.Contains(string(text), "ExecStart=/usr/local/bin/freshet "+part+" ") {
			t.Errorf("%s does not run freshet %s", unit, part)
		}
		file := filepath.Join(dir, filepath.Base(unit))
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/freshet", program)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}
