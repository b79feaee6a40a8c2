package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// errDev is returned by the dev command of every build: the embedded servers would make each start of a worker slower.
var errDev = errors.New("the demo is a separate program, freshet-dev; run make demo or go run ./cmd/freshet-dev in a checkout of the repository")

// devCommand tells a user of `freshet dev` where the demo is.
func devCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "dev",
		Short:              "Try everything in one process: a separate program, freshet-dev (make demo)",
		DisableFlagParsing: true,
		RunE:               func(*cobra.Command, []string) error { return usageError{errDev} },
	}
}
