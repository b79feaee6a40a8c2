package testenv

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// withSettings runs a command whose environment points freshet itself at the servers, with new databases for the replica and for
// a source, which are dropped afterwards.
func withSettings(ctx context.Context, env []string, out io.Writer, run func(env []string) int) int {
	s, err := givenMySQL(ctx, lookup(env, MySQLVar))
	name := unique("freshet_")
	source := name + "_source"
	for _, database := range []string{name, source} {
		if err == nil {
			err = s.exec(ctx, "CREATE DATABASE "+database+" CHARACTER SET utf8mb4")
		}
		if err != nil {
			fmt.Fprintln(out, "testenv: make a database:", err)
			return 1
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if err := s.exec(ctx, "DROP DATABASE "+database); err != nil {
				fmt.Fprintln(out, "testenv: drop the database:", err)
			}
		}()
	}
	redis := lookup(env, RedisVar)
	if filepath.IsAbs(redis) {
		redis = "unix://" + redis
	} else {
		redis = "redis://" + redis + "/0"
	}
	return run(append(env, "FRESHET_KAFKA__BROKERS="+lookup(env, KafkaVar), "FRESHET_MYSQL__DSN="+s.DSN(name), "FRESHET_RELAY__DSN="+s.DSN(source), "FRESHET_REDIS__URL="+redis))
}

// lookup finds a variable in settings for a child, then in our own environment.
func lookup(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return os.Getenv(name)
}
