package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/lint"
)

func schemaLint(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lint [DIR]",
		Short: "Check the declarations and schemas of a folder of datasets, and give advice",
		Long:  "Without DIR the folder of the settings is checked. Errors make the exit code 1, advice does not.",
		Args:  args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			l, _, err := p.load(cmd)
			if err != nil {
				return err
			}
			dir := l.Config.Datasets
			if len(a) == 1 {
				dir = a[0]
			}
			return printLint(p, lint.Folder(os.DirFS(dir)))
		},
	}
	config.Bind(cmd.Flags(), "datasets", "log")
	return cmd
}

func printLint(p *program, lines []lint.Line) error {
	failed := slices.ContainsFunc(lines, func(l lint.Line) bool { return l.Level == lint.Error })
	if p.json {
		if err := p.printJSON(lines); err != nil {
			return err
		}
	} else {
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		for _, l := range lines {
			if l.Dataset == "" {
				fmt.Fprintf(w, "%s\t%s\n", l.Level, l.Text)
				continue
			}
			fmt.Fprintf(w, "%s\t%s %s\t%s\n", l.Level, l.Dataset, l.Path, l.Text)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if len(lines) == 0 {
			fmt.Fprintln(p.out, "nothing to say")
		}
	}
	if failed {
		return errReported
	}
	return nil
}
