package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/internal/cdctest"
	"github.com/freshet/freshet/internal/testenv"
)

// TestInitFromTopic: the tool is recognised from the records of a topic; with the database the types are exact.
func TestInitFromTopic(t *testing.T) {
	const dir = "../../schemas/cdc/testdata"
	kafka := testenv.Kafka(t)
	captured, err := cdctest.Read(dir, "maxwell/default")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "sql", "ddl.sql"))
	if err != nil {
		t.Fatal(err)
	}
	_, create, _ := strings.Cut(string(text), "USE shop;\n")
	s := newSource(t, create)
	topic := kafka.CreateTopic(t, 2)
	client := kafka.Client(t)
	ours := func(text []byte) []byte { // the captured database, under the name that it has here
		return bytes.ReplaceAll(text, []byte(`"database":"shop"`), []byte(`"database":"`+s.name+`"`))
	}
	for _, c := range captured {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: ours(c.Record.Key), Value: ours(c.Record.Value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	environ := []string{"FRESHET_KAFKA__BROKERS=" + strings.Join(kafka.Brokers, ","), "FRESHET_DATASETS=" + s.out}
	out, errOut, code := freshet(t, environ, "init", "--topic", topic)
	for _, want := range []string{
		" records of topic " + topic + " are from maxwell, of " + s.name + ".audit_nopk, " + s.name + ".customers, ",
		"note: customers: its types were inferred from ", "PROBLEM " + s.name + ".audit_nopk: it has no primary key", "wrote " + filepath.Join(s.out, "order_lines.yaml"),
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s%s", want, out, errOut)
		}
	}
	if code != exitFailed { // audit_nopk has no draft
		t.Errorf("exit code %d", code)
	}
	if lint, _, code := freshet(t, environ, "schema", "lint"); code != exitDone {
		t.Errorf("lint: %s", lint)
	}
	declaration, err := os.ReadFile(filepath.Join(s.out, "order_lines.yaml"))
	if err != nil || !strings.Contains(string(declaration), "topic: "+topic+"\nformat: maxwell\n") || !strings.Contains(string(declaration), "key: [order_id, line_no]\n") || !strings.Contains(string(declaration), "table: "+s.name+".order_lines\n") {
		t.Errorf("declaration, %v:\n%s", err, declaration)
	}
	exact := t.TempDir()
	out, errOut, code = freshet(t, environ, "init", "--topic", topic, "--dsn-file", s.dsnFile, "--out", exact)
	schema, err := os.ReadFile(filepath.Join(exact, "customers.json"))
	if code != exitFailed || err != nil || strings.Contains(out, "were inferred") || !strings.Contains(string(schema), `"balance": {"type": ["string", "null"], "x-decimal": "12,2"}`) {
		t.Errorf("with the database: exit code %d, %v\n%s%s\n%s", code, err, out, errOut, schema)
	}
	if _, errOut, code := freshet(t, environ, "init", "--topic", topic+"x"); code != exitFailed || !strings.Contains(errOut, topic+"x") {
		t.Errorf("a topic that does not exist: exit code %d, %s", code, errOut)
	}
	if _, errOut, code := freshet(t, environ, "init", "--topic", kafka.CreateTopic(t, 1)); code != exitFailed || !strings.Contains(errOut, "has no records yet") {
		t.Errorf("an empty topic: exit code %d, %s", code, errOut)
	}
	if _, errOut, code := freshet(t, environ, "init", "--topic", topic, "--from", "maxwell"); code != exitUsage || !strings.Contains(errOut, "is recognised") {
		t.Errorf("--from with --topic: exit code %d, %s", code, errOut)
	}
}
