package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) {
	for _, child := range []func() (int, bool){workerChild, sqlChild, nodeChild} {
		if code, is := child(); is {
			os.Exit(code)
		}
	}
	testenv.Main(m)
}

// binary is the freshet command, built once per run of this package.
var binary struct {
	once sync.Once
	path string
	err  error
}

func freshet(t *testing.T) string {
	t.Helper()
	b := &binary
	b.once.Do(func() {
		b.path = filepath.Join(testenv.Dir(t), "freshet")
		cmd := exec.Command("go", "build", "-o", b.path, "github.com/freshet/freshet/cmd/freshet")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if msg, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("build freshet: %w\n%s", err, msg)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}
