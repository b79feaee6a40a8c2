package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the manual pages, for those who package freshet.
func manCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write a manual page for each command into a folder", Hidden: true, Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, dirs []string) error {
			if err := os.MkdirAll(dirs[0], 0o755); err != nil { //nolint:gosec // for everybody to read
				return fmt.Errorf("make the folder: %w", err)
			}
			header := &doc.GenManHeader{Section: "1", Source: "freshet " + release(), Manual: "Freshet"}
			if err := doc.GenManTree(cmd.Root(), header, dirs[0]); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			_, err := fmt.Fprintln(p.out, "manual pages are in "+dirs[0])
			return err //nolint:wrapcheck // the caller's writer
		},
	}
}
