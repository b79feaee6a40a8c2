package boot

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

// Replica makes sure that a database belongs to the namespace and the group, and looks at its tables. A dataset that cannot be
// written as things are is logged: it is paused with its first event, and the others flow.
func Replica(ctx context.Context, db *replica.DB, namespace, group string, set *schemas.Datasets, log *slog.Logger) error {
	if _, err := db.Binding.Bind(ctx, namespace, group); err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	broken, err := db.Prepare(ctx, set.All())
	if err != nil {
		return fmt.Errorf("check replica tables: %w", err)
	}
	for _, b := range broken {
		log.ErrorContext(ctx, "dataset cannot be written as things are", "dataset", b.Dataset, "error", b)
	}
	return nil
}

// Redis tries the lanes of an emitter. Errors say what to do where the server's own words do not.
func Redis(ctx context.Context, e *invalidation.Emitter) error {
	err := e.Check(ctx)
	switch {
	case err == nil:
		return nil
	case redis.IsAuthError(err):
		return fmt.Errorf("check redis: %w; correct user and password of Redis (redis.url), or the user's ACL", err)
	}
	return fmt.Errorf("check redis: %w", err)
}
