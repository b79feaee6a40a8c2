package invalidation_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/freshet/freshet/internal/testenv"
)

// A Redis client whose server was killed tries to dial it once a second, and notices only at the next try that it was
// closed meanwhile.
func TestMain(m *testing.M) {
	if code, child := nodeChild(); child {
		os.Exit(code)
	}
	testenv.Main(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}
