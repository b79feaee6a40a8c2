// Command serve starts Kafka, MariaDB and Redis once for a whole test run:
//
//	go run ./internal/testenv/serve go test ./...
//
// The command finds them by FRESHET_TEST_KAFKA, FRESHET_TEST_MYSQL and FRESHET_TEST_REDIS. The exit code is the
// command's, and the servers are gone when it ends.
package main

import (
	"context"
	"os"

	"github.com/freshet/freshet/internal/testenv"
)

func main() { os.Exit(testenv.Serve(context.Background(), os.Args[1:], os.Stderr)) }
