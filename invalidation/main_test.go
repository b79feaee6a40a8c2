package invalidation_test

import (
	"os"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) {
	if code, child := nodeChild(); child {
		os.Exit(code)
	}
	testenv.Main(m)
}
