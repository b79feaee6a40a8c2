package browser

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
)

func TestAxeIsFetchedOnceAndChecked(t *testing.T) {
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	archive := filepath.Join(cache, "freshet", "axe-core", "axe-core-"+axeVersion+".tgz")
	damage := func() {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(archive), 0o700), os.WriteFile(archive, []byte("damaged"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	damage()
	script, err := axe(t.Context())
	if errors.Is(err, testenv.ErrMissing) {
		testenv.Skip(t, err.Error())
	}
	if err != nil || !strings.Contains(script, "axe.run") {
		t.Fatalf("a damaged cache is not replaced: %v, %.80q", err, script)
	}
	t.Setenv("PATH", "") // no npm
	if again, err := axe(t.Context()); err != nil || again != script {
		t.Errorf("the cache is not used: %v", err)
	}
	damage()
	if _, err := axe(t.Context()); !errors.Is(err, testenv.ErrMissing) {
		t.Errorf("without npm and cache: %v", err)
	}
}
