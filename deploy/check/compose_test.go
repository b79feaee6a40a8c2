package check

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// project reads docker-compose.yml as Docker Compose does, with all profiles.
func project(t *testing.T, env ...string) *types.Project {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{"../../docker-compose.yml"}, cli.WithEnv(env), cli.WithProfiles([]string{"*"}))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeFile(t *testing.T) {
	p := project(t)
	var names []string
	for name, s := range p.Services {
		names = append(names, name)
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to the network", name, port.Published)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
		}
		if long := slices.Contains([]string{"kafka", "mysql", "redis", "serve", "relay"}, name); long && s.HealthCheck == nil {
			t.Errorf("%s has no health check", name)
		}
	}
	slices.Sort(names)
	if want := []string{"grafana", "jaeger", "kafka", "migrate", "mysql", "prometheus", "redis", "relay", "serve", "tables"}; !slices.Equal(names, want) {
		t.Errorf("the services are %q", names)
	}
	for _, store := range []string{"kafka", "mysql", "redis", "prometheus", "grafana"} {
		if !slices.ContainsFunc(p.Services[store].Volumes, func(v types.ServiceVolumeConfig) bool { return v.Type == types.VolumeTypeVolume && v.Source == store }) {
			t.Errorf("%s loses its data with its container", store)
		}
	}
}

// TestComposeTakesAnyFolder: a relative path without "./" would be the name of a volume in another form of mount.
func TestComposeTakesAnyFolder(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(root, "examples/catalog/datasets")
	for _, folder := range []string{"", "./examples/catalog/datasets", "examples/catalog/datasets", want} {
		var env []string
		if folder != "" {
			env = append(env, "FRESHET_DATASETS="+folder)
		}
		v := project(t, env...).Services["serve"].Volumes[0]
		if v.Type != types.VolumeTypeBind || v.Source != want || v.Target != "/datasets" || !v.ReadOnly {
			t.Errorf("FRESHET_DATASETS=%s: %s %s at %s", folder, v.Type, v.Source, v.Target)
		}
	}
}

// TestComposeSettings loads the environment of each of Freshet's services with freshet itself, and compares its token with the hash.
func TestComposeSettings(t *testing.T) {
	p := project(t)
	for _, name := range []string{"migrate", "tables", "serve", "relay"} {
		cmd := exec.Command("go", "run", "./cmd/freshet", "config")
		cmd.Dir, cmd.Env = "../..", os.Environ()
		for key, value := range p.Services[name].Environment {
			cmd.Env = append(cmd.Env, key+"="+*value)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	scrape, err := os.ReadFile("../compose/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	token := regexp.MustCompile(`frt_\w+`).FindString(string(scrape))
	if hash := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(token))); token == "" || !strings.Contains(p.Configs["tokens"].Content, hash) {
		t.Errorf("the token of Prometheus has the hash %s; the file of tokens is %s", hash, p.Configs["tokens"].Content)
	}
}
