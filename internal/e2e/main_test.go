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
	if code, child := workerChild(); child {
		os.Exit(code)
	}
	testenv.Main(m)
}

// binary builds the freshet command once per run of this package.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "freshet-e2e")
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "freshet")
	cmd := exec.Command("go", "build", "-tags", "nodev", "-o", out, "github.com/freshet/freshet/cmd/freshet")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build freshet: %w\n%s", err, msg)
	}
	return out, nil
})

func freshet(t *testing.T) string {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}
