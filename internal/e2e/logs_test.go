package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
)

// logLines parses a log in JSON; anything else on standard error, and a field that is there twice, is an error.
func logLines(t *testing.T, log []byte) (lines []map[string]any) {
	t.Helper()
	for _, text := range bytes.Split(bytes.TrimSpace(log), []byte("\n")) {
		dec := json.NewDecoder(bytes.NewReader(text))
		line := map[string]any{}
		if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
			t.Errorf("not JSON: %s", text)
			continue
		}
		for dec.More() {
			key, err := dec.Token()
			var value any
			if err == nil {
				err = dec.Decode(&value)
			}
			if err != nil {
				t.Errorf("not JSON: %v: %s", err, text)
				break
			}
			name, _ := key.(string)
			if _, twice := line[name]; twice {
				t.Errorf("%s is there twice: %s", name, text)
			}
			line[name] = value
		}
		lines = append(lines, line)
	}
	return lines
}

// logsThat waits until the log has all the texts.
func logsThat(t *testing.T, p *testenv.Process, texts ...string) {
	t.Helper()
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		log, err := os.ReadFile(p.LogFile())
		if err != nil {
			return err
		}
		for _, text := range texts {
			if !strings.Contains(string(log), text) {
				return fmt.Errorf("the log lacks %s", text)
			}
		}
		return nil
	})
}

// jsonEnv is the environment of a process whose servers refuse every connection, and which logs JSON.
func jsonEnv(dir string) []string {
	return append(os.Environ(), "FRESHET_DATASETS="+dir, "FRESHET_LOG__FORMAT=json", "FRESHET_LOG__LEVEL=debug", "FRESHET_KAFKA__BROKERS=127.0.0.1:1",
		"FRESHET_REDIS__URL=redis://127.0.0.1:1/0", "FRESHET_MYSQL__DSN=u:hunter2@tcp(127.0.0.1:1)/d", "FRESHET_RELAY__DSN=u:hunter2@tcp(127.0.0.1:1)/d",
		"FRESHET_WORKER__LISTEN=127.0.0.1:0", "FRESHET_ADMIN__LISTEN=127.0.0.1:0", "FRESHET_RELAY__LISTEN=127.0.0.1:0")
}

// Every line of a service whose servers are away is JSON, also those of its libraries.
func TestLogsOfFailingServicesAreJSON(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"items.json": itemSchema, "items.yaml": fmt.Sprintf(itemDataset, "items")} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for command, texts := range map[string][]string{
		"worker": {`"step":"mysql: open the replica"`, `"step":"redis: check the lanes"`},
		"serve":  {`"step":"mysql: open the replica"`, `"step":"mysql: open the replica of the admin API"`, `"msg":"redis client"`},
		"admin":  {`"step":"mysql: open the replica of the admin API"`},
		"relay":  {`"msg":"outbox not published"`},
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(freshet(t), command)
			cmd.Env = jsonEnv(dir)
			p := testenv.StartProcess(t, command, cmd)
			logsThat(t, p, append(texts, `"msg":"listening"`)...)
			log, err := os.ReadFile(p.LogFile())
			if err != nil {
				t.Fatal(err)
			}
			address := regexp.MustCompile(`"address":"([^"]+)"`).FindSubmatch(log)[1]
			abuse(t, string(address))
			signalled(t, p, syscall.SIGTERM)
			if err := ended(t, p); err != nil {
				t.Error(err)
			}
			if log, err = os.ReadFile(p.LogFile()); err != nil {
				t.Fatal(err)
			}
			lines := logLines(t, log)
			if len(lines) < 2 {
				t.Errorf("%d lines", len(lines))
			}
			traced := false
			for _, line := range lines {
				if line["namespace"] != "default" {
					t.Errorf("a line without its namespace: %v", line)
				}
				traced = traced || line["msg"] == "request" && line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
			}
			if api := command == "admin"; traced != api && command != "serve" {
				t.Errorf("a request is logged with its trace: %t", traced)
			}
			if bytes.Contains(log, []byte("hunter2")) {
				t.Error("a password is logged")
			}
		})
	}
}

// abuse makes requests that net/http reports: one that is no HTTP, and one whose client goes.
func abuse(t *testing.T, addr string) {
	t.Helper()
	var d net.Dialer
	for _, text := range []string{"\x16\x03\x01\x00garbage\r\n\r\n", "GET /readyz HTTP/1.1\r\nHost: localhost\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"} {
		c, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Write([]byte(text))
		if err := errors.Join(err, c.Close()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if status, _, err := fetch(ctx, "http://"+addr+"/livez"); err != nil || status != http.StatusOK {
		t.Errorf("livez: %d, %v", status, err)
	}
}

// So is the error that ends a service, also where its settings cannot be used.
func TestLastErrorOfAServiceIsJSON(t *testing.T) {
	for name, change := range map[string]string{
		"settings": "FRESHET_WORKER__WINDOW=1000h", "datasets": "FRESHET_DATASETS=/nowhere", "unknown": "FRESHET_WORKER__WRITER=3", "listener": "FRESHET_WORKER__LISTEN=0.0.0.0:7788",
	} {
		cmd := exec.CommandContext(t.Context(), freshet(t), "worker")
		cmd.Env = append(jsonEnv("../../examples/shop/datasets"), change)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		if err := cmd.Run(); err == nil {
			t.Errorf("%s: it ended well", name)
		}
		lines := logLines(t, errOut.Bytes())
		last := lines[len(lines)-1]
		if text, _ := last["error"].(string); last["level"] != "ERROR" || text == "" {
			t.Errorf("%s: %s", name, errOut.String())
		}
	}
}
