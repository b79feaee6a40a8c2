package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (p *program) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure Freshet against the limit of the servers it runs on",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s apply", cmd.CommandPath())}
		},
	}
	return cmd
}
