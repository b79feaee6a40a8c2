package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
)

func migrateNamespace(p *program) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "namespace",
		Short: "Move the database to the configured namespace and consumer group",
		Long: "A database belongs to one namespace and one consumer group, and workers of another are refused. This command moves it, also\n" +
			"a copy of another deployment's database, which gets an identity of its own. Workers of the previous namespace are fenced.\n" +
			"Nothing invalidates the entries of the previous namespace any more: stop its nodes first, or let their TTL end.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			return runMigrateNamespace(cmd.Context(), p, l.Config, dryRun, log)
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be done and do nothing")
	config.Bind(cmd.Flags(), "namespace", "kafka", "mysql", "log")
	return cmd
}

// bindingReport is what migrate namespace prints with --json.
type bindingReport struct {
	DryRun  bool   `json:"dry_run"`
	Moved   bool   `json:"moved"`
	From    string `json:"from"`
	To      string `json:"to"`
	GroupTo string `json:"group"`
}

func runMigrateNamespace(ctx context.Context, p *program, c config.Config, dryRun bool, log *slog.Logger) error {
	db, err := connect.Replica(ctx, c, log)
	if err != nil {
		return err
	}
	defer db.Close()
	b, err := db.Binding.Get(ctx)
	if err != nil {
		return err
	}
	r := bindingReport{DryRun: dryRun, From: b.Namespace, To: c.Namespace, GroupTo: c.Kafka.Group, Moved: b.Namespace != c.Namespace}
	others := slices.DeleteFunc(slices.Clone(b.Groups), func(g string) bool { return g == c.Kafka.Group })
	if !r.Moved && len(others) > 0 {
		return fmt.Errorf("move database: it belongs to namespace %q already, and its lanes to group %q; set kafka.group: %[2]s", b.Namespace, strings.Join(others, ", "))
	}
	if r.Moved && !dryRun {
		if err := db.Binding.Move(ctx, c.Namespace, c.Kafka.Group); err != nil {
			return err
		}
	}
	switch {
	case p.json:
		return p.printJSON(r)
	case !r.Moved:
		fmt.Fprintf(p.out, "nothing to do: the database belongs to namespace %s\n", c.Namespace)
	default:
		fmt.Fprintf(p.out, "database of namespace %q and group %q: moved to namespace %q and group %q\n", b.Namespace, strings.Join(b.Groups, ", "), c.Namespace, c.Kafka.Group)
	}
	return nil
}
