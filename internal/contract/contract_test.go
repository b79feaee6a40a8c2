package contract_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	schemathesis = "schemathesis==4.32.5"
	oapiCodegen  = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"
	redocly      = "@redocly/cli@2.77.0"
)

// server is an admin API, with a worker beside it, and a token of the role admin.
type server struct {
	t               *testing.T
	url, token, dir string
	document        string // path of the OpenAPI document
}

// TestDocument starts one server for all that read its document, one after the other.
func TestDocument(t *testing.T) {
	s := start(t)
	t.Run("lint", s.lint)
	t.Run("Go client", s.goClient)
	t.Run("TypeScript client", s.tsClient)
	t.Run("fuzz", s.fuzz)
}

func start(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	kafka, my, rs := testenv.Kafka(t), testenv.MySQL(t), testenv.Redis(t)
	ns, topic := rs.Namespace(t), kafka.Topic(t)
	t.Cleanup(func() { kafka.DeleteTopic(t, "freshet.invalidations."+ns) })
	freshet, datasets := filepath.Join(s.dir, "freshet"), filepath.Join(s.dir, "datasets")
	build := exec.Command("go", "build", "-o", freshet, "github.com/freshet/freshet/cmd/freshet")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	must(t, build)
	if err := os.CopyFS(datasets, os.DirFS("../../examples/catalog/datasets")); err != nil {
		t.Fatal(err)
	}
	declaration := filepath.Join(datasets, "packages.yaml")
	text, err := os.ReadFile(declaration)
	if err != nil {
		t.Fatal(err)
	}
	write(t, declaration, string(text)+"topic: "+topic+"\n")
	env := append(os.Environ(), "FRESHET_DATASETS="+datasets, "FRESHET_NAMESPACE="+ns, "FRESHET_KAFKA__GROUP="+ns, "FRESHET_MYSQL__DSN="+my.NewDatabase(t),
		"FRESHET_KAFKA__BROKERS="+strings.Join(kafka.Brokers, ","), "FRESHET_REDIS__URL=redis://"+rs.Addr+"/0")
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), freshet, args...)
		cmd.Env = env
		return must(t, cmd)
	}
	run("migrate", "up")
	run("migrate", "datasets")
	var made struct{ Token, Line string }
	if err := json.Unmarshal([]byte(run("admin", "token", "--name", "contract", "--role", "admin", "--json")), &made); err != nil {
		t.Fatal(err)
	}
	tokens := filepath.Join(s.dir, "tokens")
	write(t, tokens, made.Line+"\n")
	s.token, s.document = made.Token, filepath.Join(s.dir, "openapi.json")
	write(t, s.document, run("admin", "openapi"))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), freshet, "serve", "--admin-listen", "127.0.0.1:0", "--worker-listen", "", "--admin-tokens-file", tokens,
		"--admin-rate", "1000000", "--admin-publish-rate", "1000000")
	cmd.Env = env
	p := testenv.StartProcess(t, "serve", cmd)
	address := regexp.MustCompile(`msg=listening .*component=admin .*address=(\S+)`)
	testenv.Eventually(t, time.Minute, func(ctx context.Context) error {
		log, err := os.ReadFile(p.LogFile())
		m := address.FindSubmatch(log)
		if err != nil || m == nil {
			return errors.New("it does not listen yet")
		}
		s.url = "http://" + string(m[1])
		status, body := s.get(ctx, "/readyz")
		if status != http.StatusOK {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	return s
}

func (s *server) get(ctx context.Context, path string) (int, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	res, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

// lint fails for an error or a warning of redocly's recommended rules.
func (s *server) lint(t *testing.T) {
	dir := npm(t, redocly)
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "node_modules/.bin/redocly"), "lint", "--format=json", s.document)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off")
	out, err := cmd.Output()
	var report struct {
		Problems []struct{ RuleID, Severity, Message string }
	}
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
		t.Fatalf("%v, %v: %s", err, jsonErr, out)
	}
	for _, p := range report.Problems {
		t.Errorf("%s: %s: %s", p.Severity, p.RuleID, p.Message)
	}
}

// goClient generates a client and lets a program publish and replay with it.
func (s *server) goClient(t *testing.T) {
	dir := t.TempDir()
	copyText(t, "testdata/goclient/main.go.txt", filepath.Join(dir, "main.go"))
	write(t, filepath.Join(dir, "go.mod"), "module example.com/goclient\n\ngo 1.26.0\n")
	if err := os.Mkdir(filepath.Join(dir, "api"), 0o700); err != nil {
		t.Fatal(err)
	}
	in := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = dir
		return cmd
	}
	had(t, in("run", oapiCodegen, "-generate", "types,client", "-package", "api", "-o", "api/api.go", s.document))
	had(t, in("mod", "tidy"))
	s.replayed(t, must(t, in("run", ".", s.url, s.token)), "from-go")
}

// tsClient is goClient in TypeScript.
func (s *server) tsClient(t *testing.T) {
	dir := npm(t, "openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "@types/node@20.9.5")
	copyText(t, "testdata/tsclient/main.ts", filepath.Join(dir, "main.ts"))
	in := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		return cmd
	}
	must(t, in("node_modules/.bin/openapi-typescript", s.document, "--default-non-nullable=false", "-o", "api.d.ts"))
	must(t, in("node_modules/.bin/tsc", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext", "main.ts"))
	s.replayed(t, must(t, in("node", "main.js", s.url, s.token)), "from-ts")
}

// replayed waits until a client's event is applied, and its replay has ended.
func (s *server) replayed(t *testing.T, out, key string) {
	t.Helper()
	id := strings.TrimSpace(out)
	testenv.Eventually(t, time.Minute, func(ctx context.Context) error {
		if _, body := s.get(ctx, "/v1/replays/"+id); !strings.Contains(body, `"state":"done"`) {
			return fmt.Errorf("replay %s: %s", id, body)
		}
		if _, body := s.get(ctx, "/v1/records/packages/"+key); !strings.Contains(body, `"version":7`) {
			return fmt.Errorf("record %s: %s", key, body)
		}
		return nil
	})
}

// fuzz asks for what the document allows and for what it forbids. That a request which the schema allows is accepted cannot be asked for:
// no schema says that a range of offsets needs a partition. Streams have no end, so they are left out.
func (s *server) fuzz(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		testenv.Skip(t, "no python3")
	}
	venv := filepath.Join(t.TempDir(), "venv")
	had(t, exec.CommandContext(t.Context(), "python3", "-m", "venv", venv))
	had(t, exec.CommandContext(t.Context(), filepath.Join(venv, "bin/pip"), "install", "--quiet", "--disable-pip-version-check", schemathesis))
	args := []string{
		"run", s.url + "/openapi.json", "-H", "Authorization: Bearer " + s.token, "--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1",
		"--checks", "all", "--exclude-checks", "positive_data_acceptance", "--continue-on-failure", "--no-color",
	}
	for _, stream := range []string{"follow-invalidations", "follow-messages", "follow-replay"} {
		args = append(args, "--exclude-operation-id", stream)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(venv, "bin/schemathesis"), args...)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, strings.ReplaceAll(string(out), s.token, "TOKEN"))
	}
}

// npm installs packages into a directory.
func npm(t *testing.T, packages ...string) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		testenv.Skip(t, "no npm")
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "package.json"), "{\"private\": true}\n")
	cmd := exec.CommandContext(t.Context(), "npm", append([]string{"install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"}, packages...)...)
	cmd.Dir = dir
	had(t, cmd)
	return dir
}

// had runs what brings a tool here, and skips the test when it cannot be had.
func had(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		testenv.Skip(t, fmt.Sprintf("%s cannot be had: %v: %s", filepath.Base(cmd.Path), err, out))
	}
}

func must(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", filepath.Base(cmd.Path), err, out, errOut.String())
	}
	return string(out)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func copyText(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	write(t, to, string(text))
}
