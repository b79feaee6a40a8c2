package freshet_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/freshet/freshet"

// anything marks the one package that knows everybody.
const anything = "*"

// mayImport lists each package with what it may import of ours, outside tests. A package that is not
// listed fails: a new one is a decision. internal/retry is a leaf that may be listed for every package but schemas, whose one import is internal/jsontext.
var mayImport = map[string][]string{
	"":                      {},
	"schemas":               {"internal/jsontext"},
	"schemas/cdc":           {"schemas"},
	"internal/cdctest":      {"schemas"},
	"schemas/compat":        {"schemas"},
	"producer":              {"internal/tracecontext", "schemas", "internal/kafkalog", "internal/kafkalog/delivery", "internal/retry", "internal/kafkalog/recordbatch", "internal/durations"},
	"producer/prom":         {"producer", "internal/exposition"},
	"producer/producertest": {"schemas", "producer"},
	"producer/outbox":       {"internal/tracecontext", "schemas"},
	"internal/worker":       {"internal/tracecontext", "schemas", "schemas/cdc", "internal/outgoing", "internal/replica", "internal/replica/tables", "invalidation/lane", "internal/kafkalog", "internal/kafkalog/delivery", "internal/kafkalog/group", "internal/mysql", "internal/retry", "internal/durations"},
	"consumer": {
		"internal/tracecontext", "schemas", "internal/worker", "internal/jobs", "internal/replica", "internal/mysql", "internal/kafkalog", "internal/kafkalog/group", "internal/consistency", "internal/boot", "internal/roster", "invalidation", "invalidation/lane", "admin/api", "admin/report", "internal/durations",
	},
	"internal/boot":                    {"schemas", "internal/replica", "internal/retry", "invalidation"},
	"internal/roster":                  {"admin/api"},
	"internal/jobs":                    {"schemas", "schemas/cdc", "internal/outgoing", "internal/replica", "internal/replica/jobstore", "internal/replica/tables", "internal/kafkalog", "internal/kafkalog/delivery", "internal/mysql", "internal/retry"},
	"internal/outgoing":                {"schemas", "internal/replica", "internal/kafkalog/delivery"},
	"internal/backfill":                {"schemas", "internal/mysql", "internal/replica", "internal/retry"},
	"internal/relay":                   {"internal/tracecontext", "schemas", "internal/kafkalog", "internal/kafkalog/delivery", "internal/kafkalog/recordbatch", "internal/mysql", "internal/retry", "internal/durations"},
	"internal/replica":                 {"schemas", "schemas/cdc", "internal/replica/internal/meta", "internal/replica/jobstore", "internal/replica/tables", "internal/mysql"},
	"internal/replica/jobstore":        {"schemas", "internal/replica/internal/meta", "internal/replica/tables", "internal/mysql"},
	"internal/replica/internal/meta":   {"internal/mysql"},
	"internal/replica/tables":          {"schemas", "internal/replica/internal/meta", "internal/mysql"},
	"registry":                         {"internal/retry"},
	"registry/etcd":                    {"registry"},
	"registry/consul":                  {"registry"},
	"invalidation":                     {"internal/tracecontext", "schemas", "invalidation/lane", "internal/retry", "internal/durations", "registry"},
	"invalidation/lane":                {"schemas", "internal/jsontext"},
	"invalidation/lane/internal/model": {},
	"invalidation/prom":                {"invalidation", "internal/exposition", "registry"},
	"invalidation/readyours":           {"schemas", "invalidation"},
	"invalidation/msgpack":             {},
	"internal/consistency":             {"schemas", "invalidation", "invalidation/lane", "admin/report"},
	"admin/report":                     {},
	"internal/admin": {
		"internal/tracecontext", "schemas", "schemas/cdc", "internal/worker", "internal/jobs", "internal/replica", "internal/replica/jobstore", "internal/replica/tables", "internal/consistency", "invalidation", "invalidation/lane", "internal/kafkalog", "internal/listener", "internal/retry", "admin/api", "internal/admin/access", "internal/admin/gate", "internal/admin/sse", "internal/admin/stale", "internal/admin/pulse", "internal/lint", "schemas/compat", "internal/roster", "admin/report", "internal/durations",
	},
	"admin/api":                         {"schemas", "admin/report"},
	"internal/admin/access":             {"internal/livefile"},
	"internal/admin/gate":               {"internal/tracecontext", "internal/admin/access", "internal/listener", "admin/api", "schemas"},
	"internal/admin/pulse":              {"admin/api", "admin/report"},
	"internal/admin/sse":                {},
	"internal/admin/stale":              {"admin/api", "internal/admin/sse", "invalidation/lane"},
	"internal/console":                  {"admin/api", "admin/report", "internal/admin/access", "internal/admin/gate", "internal/admin/sse", "internal/console/chart", "internal/console/session", "internal/console/text"},
	"internal/console/chart":            {},
	"internal/console/session":          {"internal/admin/access"},
	"internal/console/text":             {},
	"migrations":                        {"internal/retry"},
	"internal/kafkalog":                 {"schemas", "internal/retry", "internal/kafkalog/recordbatch", "internal/kafkalog/wire"},
	"internal/kafkalog/group":           {"schemas", "internal/retry", "internal/kafkalog", "internal/kafkalog/recordbatch", "internal/kafkalog/wire", "internal/durations"},
	"internal/kafkalog/delivery":        {"schemas", "internal/retry", "internal/kafkalog", "internal/kafkalog/recordbatch", "internal/durations"},
	"internal/kafkalog/kafkatest":       {"internal/kafkalog", "internal/testenv"},
	"internal/kafkalog/recordbatch":     {"schemas", "internal/kafkalog/wire"},
	"internal/kafkalog/wire":            {},
	"internal/dashboard":                {},
	"internal/draft":                    {"schemas", "internal/mysql", "internal/replica/tables"},
	"internal/mysql":                    {"internal/retry"},
	"internal/retry":                    {},
	"internal/tracecontext":             {},
	"internal/durations":                {},
	"internal/exposition":               {"internal/durations"},
	"internal/lint":                     {"schemas", "schemas/compat", "internal/mysql", "internal/replica/tables"},
	"internal/listener":                 {},
	"internal/jsontext":                 {},
	"internal/livefile":                 {},
	"internal/contract":                 {},
	"internal/e2e":                      {},
	"internal/browser":                  {"internal/testenv"},
	"internal/testenv":                  {},
	"internal/testenv/serve":            {"internal/testenv"},
	"cmd/freshet-dev":                   {"cmd/freshet-dev/internal/demo", "cmd/freshet-dev/internal/devstack", "examples/shop", "internal/admin", "schemas"},
	"cmd/freshet-dev/internal/devstack": {"internal/retry"},
	"cmd/freshet-dev/internal/demo": {
		"schemas", "internal/relay", "producer/outbox", "producer", "internal/worker", "internal/replica", "internal/replica/tables", "invalidation", "invalidation/lane", "migrations",
		"cmd/freshet-dev/internal/devstack", "internal/kafkalog", "internal/kafkalog/group", "internal/mysql", "internal/retry", "internal/admin", "internal/console", "admin/api", "internal/consistency", "internal/jobs", "internal/roster",
	},
	"cmd/freshet": {anything},
	"cmd/freshet/internal/bench": {
		"schemas", "internal/backfill", "producer", "producer/outbox", "internal/relay", "internal/worker", "internal/replica", "internal/replica/tables", "invalidation", "migrations", "internal/kafkalog", "internal/kafkalog/group", "internal/kafkalog/delivery", "internal/kafkalog/recordbatch", "internal/mysql", "cmd/freshet/internal/config", "cmd/freshet/internal/connect",
	},
	"cmd/freshet/internal/grants":                {"schemas", "internal/mysql", "internal/worker", "migrations"},
	"cmd/freshet/internal/config":                {"consumer", "internal/livefile"},
	"cmd/freshet/internal/connect":               {"schemas", "registry", "registry/etcd", "registry/consul", "consumer", "producer", "internal/relay", "internal/replica", "invalidation", "internal/kafkalog", "internal/kafkalog/group", "internal/kafkalog/recordbatch", "internal/livefile", "internal/mysql", "cmd/freshet/internal/config"},
	"cmd/freshet/internal/telemetry":             {"consumer", "registry", "internal/listener", "internal/livefile", "internal/relay", "admin/report", "internal/exposition", "internal/admin", "schemas", "schemas/cdc"},
	"cmd/freshet/internal/telemetry/metricspage": {anything},
	"examples/catalog":                           {"schemas", "producer", "invalidation"},
	"examples/followers":                         {},
	"examples/legacy":                            {},
	"examples/outbox":                            {},
	"examples/sessions":                          {"schemas", "producer", "invalidation", "invalidation/readyours"},
	"examples/orders":                            {"schemas", "producer/outbox", "invalidation"},
	"examples/shop":                              {"schemas", "producer", "consumer", "invalidation"},
}

// testOnly packages are for tests and for the program that serves them.
var testOnly = map[string][]string{"internal/testenv": {"internal/testenv/serve", "internal/kafkalog/kafkatest", "internal/browser"}, "internal/kafkalog/kafkatest": {}, "internal/browser": {}}

// owners are the only packages that may use a dependency, outside tests. The longest path decides.
var owners = map[string][]string{
	"github.com/segmentio/kafka-go":            {"internal/kafkalog", "internal/kafkalog/group", "internal/kafkalog/delivery", "cmd/freshet/internal/bench"},
	"github.com/segmentio/kafka-go/compress":   {"internal/kafkalog/recordbatch"},
	"github.com/cenkalti/backoff/v4":           {"internal/retry"},
	"github.com/santhosh-tekuri/jsonschema/v6": {"schemas"},
	"github.com/maypok86/otter/v2":             {"invalidation"},
	"github.com/vmihailenco/msgpack/v5":        {"invalidation/msgpack"},
	"github.com/pressly/goose/v3":              {"migrations"},
	"github.com/go-sql-driver/mysql":           {"internal/mysql", "internal/testenv", "cmd/freshet-dev/internal/devstack", "cmd/freshet-dev/internal/demo", "cmd/freshet/internal/connect", "examples/sessions", "examples/orders"},
	"github.com/prometheus/client_golang":      {"internal/exposition", "invalidation/prom", "producer/prom", "cmd/freshet/internal/telemetry", "cmd/freshet/internal/telemetry/metricspage", "cmd/freshet"},
	"github.com/prometheus/client_model":       {"internal/exposition", "cmd/freshet/internal/telemetry/metricspage"},
	"github.com/spf13/cobra":                   {"cmd/freshet"},
	"github.com/danielgtaylor/huma/v2":         {"internal/admin", "internal/admin/stale"},
	"github.com/knadh/koanf":                   {"cmd/freshet/internal/config"},
	"github.com/dolthub/go-mysql-server":       {"cmd/freshet-dev/internal/devstack"},
	"github.com/alicebob/miniredis/v2":         {"cmd/freshet-dev/internal/devstack"},
	"github.com/twmb/franz-go":                 {"cmd/freshet-dev/internal/devstack", "internal/testenv", "internal/kafkalog/kafkatest", "cmd/freshet/internal/bench"}, // a reference to measure against
	"go.opentelemetry.io/otel":                 {"producer", "invalidation", "consumer", "internal/worker", "internal/relay", "internal/admin", "internal/tracecontext", "cmd/freshet", "cmd/freshet/internal/connect", "cmd/freshet/internal/telemetry"},
	"go.uber.org/goleak":                       {"internal/testenv"},
	"github.com/chromedp":                      {"internal/browser"},
	"golang.org/x/time/rate":                   {"internal/admin/gate", "internal/backfill", "internal/jobs", "internal/worker", "cmd/freshet/internal/bench"},
}

// clients are what services link, with the most modules that each may bring along.
var clients = map[string]int{
	"schemas": 4, "schemas/cdc": 4, "producer": 14, "producer/outbox": 6, "consumer": 22,
	"registry": 2, "registry/etcd": 2, "registry/consul": 2, "invalidation": 12, "invalidation/lane": 9, "invalidation/readyours": 12, "invalidation/msgpack": 2,
}

// heavy must never come along with a client.
var heavy = []string{
	"github.com/prometheus/", "github.com/spf13/cobra", "github.com/knadh/koanf", "github.com/pressly/goose",
	"github.com/dolthub/", "github.com/twmb/franz-go", "github.com/alicebob/miniredis", "charm.land/",
}

// embedded are the servers of cmd/freshet-dev.
var embedded = []string{"github.com/dolthub/", "github.com/alicebob/miniredis", "github.com/twmb/franz-go/pkg/kfake"}

// file is one Go file outside tests.
type file struct {
	name    string
	imports []string
}

func TestImportsFollowTheTable(t *testing.T) {
	all := packages(t)
	for pkg := range mayImport {
		if _, ok := all[pkg]; !ok {
			t.Errorf("the table has %s, which is not a package", pkg)
		}
	}
	for pkg, files := range all {
		allowed, listed := mayImport[pkg]
		if !listed {
			t.Errorf("package %q is not in the table: say what it may import", pkg)
			continue
		}
		for _, f := range files {
			for _, imp := range f.imports {
				ours, ok := strings.CutPrefix(imp, module+"/")
				if !ok {
					continue
				}
				if !slices.Contains(allowed, ours) && !slices.Contains(allowed, anything) {
					t.Errorf("%s imports %s; the table does not allow it", f.name, ours)
				}
				if by, only := testOnly[ours]; only && !slices.Contains(by, pkg) {
					t.Errorf("%s imports %s, which is for tests", f.name, ours)
				}
			}
		}
	}
}

func TestImportsOfDependenciesStayWithTheirOwners(t *testing.T) {
	for pkg, files := range packages(t) {
		for _, f := range files {
			for _, imp := range f.imports {
				dep := ""
				for d := range owners {
					if (imp == d || strings.HasPrefix(imp, d+"/")) && len(d) > len(dep) {
						dep = d
					}
				}
				if own := owners[dep]; dep != "" && !slices.Contains(own, pkg) {
					t.Errorf("%s imports %s, which is for %v", f.name, imp, own)
				}
			}
		}
	}
}

// The test cache does not see what a child process reads; make runs this test with -count=1.
func TestImportsOfClientsStaySmall(t *testing.T) {
	for _, pkg := range slices.Sorted(maps.Keys(clients)) {
		t.Run(pkg, func(t *testing.T) {
			reached := reachedModules(t, pkg)
			for mod := range reached {
				for _, h := range heavy {
					if strings.HasPrefix(mod+"/", h) {
						t.Errorf("reaches %s, which clients must not link", mod)
					}
				}
			}
			if len(reached) > clients[pkg] {
				t.Errorf("reaches %d modules, at most %d are agreed: %v", len(reached), clients[pkg], slices.Sorted(maps.Keys(reached)))
			}
		})
	}
}

// The embedded servers cost CPU time at each start and much memory, so the server binary is built without them.
func TestImportsOfServersStayWithoutTheEmbeddedStack(t *testing.T) {
	for mod := range reachedModules(t, "cmd/freshet") {
		for _, h := range embedded {
			if strings.HasPrefix(mod+"/", h) {
				t.Errorf("cmd/freshet reaches %s, which is for cmd/freshet-dev", mod)
			}
		}
	}
}

// reachedModules lists the modules that a package links, without this one.
func reachedModules(t *testing.T, pkg string) map[string]bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./"+pkg)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	reached := map[string]bool{}
	for mod := range strings.FieldsSeq(string(out)) {
		reached[mod] = true
	}
	delete(reached, module)
	return reached
}

// packages parses every Go file of the module outside tests, whatever its build constraints, by package directory.
func packages(t *testing.T) map[string][]file {
	t.Helper()
	all := map[string][]file{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := d.Name()
			if name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "node_modules" || name == "tools") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		name = filepath.ToSlash(name)
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := path.Dir(name)
		if pkg == "." {
			pkg = ""
		}
		one := file{name: name}
		for _, imp := range f.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				return err
			}
			one.imports = append(one.imports, p)
		}
		all[pkg] = append(all[pkg], one)
		return nil
	})
	if err != nil {
		t.Fatalf("read the module: %v", err)
	}
	if len(all) < 5 {
		t.Fatalf("found %d packages only: the walk is broken", len(all))
	}
	return all
}
