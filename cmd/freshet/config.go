package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
)

func configCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print every setting in force and where it comes from; secrets are masked",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, _, err := p.load(cmd)
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(l.Values())
			}
			w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
			for _, v := range l.Values() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, v.Value, v.Origin)
			}
			return w.Flush()
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "sample", Short: "Print a settings file with every setting, its meaning and its default", Args: args(cobra.NoArgs),
			RunE: func(*cobra.Command, []string) error { return config.WriteSample(p.out) },
		},
		&cobra.Command{
			Use: "reference", Short: "Print the table of settings as Markdown", Args: args(cobra.NoArgs),
			RunE: func(*cobra.Command, []string) error { return config.WriteReference(p.out) },
		},
	)
	config.Bind(cmd.Flags(), "datasets", "namespace", "fail_fast", "drain_delay", "kafka", "mysql", "redis", "worker", "producer", "admin", "client", "log")
	return cmd
}
