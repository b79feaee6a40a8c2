package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/cmd/freshet/internal/grants"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/producer/outbox"
)

func outboxCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "outbox",
		Short: "Print the tables and the state of the outbox in a service's database, and advance its versions",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s ddl, status or advance", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(outboxDDL(p), outboxStatus(p), outboxAdvance(p))
	return cmd
}

// outboxGrants are what accounts need, as comments. DATABASE and the accounts are the reader's to replace.
func outboxGrants() string {
	var b strings.Builder
	for _, account := range []struct {
		role      grants.Role
		who, name string
	}{{grants.Outbox, "Each service that enqueues", "SERVICE"}, {grants.Relay, "The relay", "RELAY"}, {grants.Backfill, "freshet backfill", "LOADER"}} {
		b.WriteString("-- " + account.who + ":\n")
		for _, g := range (grants.Deployment{Source: "DATABASE"}).MySQL(account.role) {
			b.WriteString("--   " + g.Statement(account.name) + ";\n")
		}
	}
	return b.String()
}

func outboxDDL(p *program) *cobra.Command {
	return &cobra.Command{
		Use: "ddl", Short: "Print the statements that create the outbox's tables, and the grants that accounts need",
		Long: "Print the statements that create the outbox's tables in a service's database, on MariaDB 10.11 and on MySQL 8 and later.\n" +
			"They change nothing where the tables exist: freshet outbox ddl | mariadb shop",
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if p.json {
				return p.printJSON(map[string]any{"statements": outbox.DDL()})
			}
			fmt.Fprint(p.out, strings.Join(outbox.DDL(), ";\n\n"), ";\n\n", outboxGrants())
			return nil
		},
	}
}

// sourceCommand makes a command on the source database.
func (p *program) sourceCommand(cmd *cobra.Command, do func(context.Context, *mysql.Pool) error) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, log, err := p.load(cmd)
		if err != nil {
			return err
		}
		return withSource(cmd.Context(), l.Config, log, func(pool *mysql.Pool) error { return do(cmd.Context(), pool) })
	}
	config.Bind(cmd.Flags(), "relay", "log")
	return cmd
}

// withSource opens the source database for as long as fn runs.
func withSource(ctx context.Context, c config.Config, log *slog.Logger, fn func(*mysql.Pool) error) error {
	mc, err := connect.Source(c, log)
	if err != nil {
		return err
	}
	pool, err := mysql.Open(ctx, mc)
	if err != nil {
		return err
	}
	defer pool.Close()
	return fn(pool)
}

func outboxAdvance(p *program) *cobra.Command {
	var above int64
	var apply bool
	cmd := p.sourceCommand(&cobra.Command{
		Use: "advance", Short: "Continue the versions of the outbox above all that were published",
		Long: "Continue the versions of the outbox above all that were published, and above those of --above. Needed after TRUNCATE or a restore of\n" +
			"the table, and before a dataset whose versions came from elsewhere uses ids. The active relay begins another term. Without --apply the command says where\n" +
			"versions would continue, and changes nothing but the counter of the table's ids, which skips one.",
		Args: args(cobra.NoArgs),
	}, func(ctx context.Context, pool *mysql.Pool) error {
		first, err := relay.Advance(ctx, pool, above, apply)
		if err != nil {
			return err
		}
		if p.json {
			return p.printJSON(map[string]any{"first_version": first + 1, "dry_run": !apply})
		}
		what := "continue"
		if !apply {
			what = "would continue"
		}
		fmt.Fprintf(p.out, "versions %s above %d\n", what, first)
		return p.hintApply(!apply, nil)
	})
	bindApply(cmd, &apply)
	cmd.Flags().Int64Var(&above, "above", 0, "greatest version that the datasets' records have from elsewhere")
	return cmd
}

func outboxStatus(p *program) *cobra.Command {
	return p.sourceCommand(&cobra.Command{
		Use: "status", Short: "Print the backlog of the outbox, its relay, and the rows that can never be published", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, pool *mysql.Pool) error {
		st, err := relay.ReadStatus(ctx, pool)
		if err != nil {
			return err
		}
		if p.json {
			return p.printJSON(st)
		}
		w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
		fmt.Fprintf(w, "outbox\t%s\n", st.Outbox)
		fmt.Fprintf(w, "active relay\t%s\n", activeRelay(st))
		fmt.Fprintf(w, "backlog\t%s\n", backlog(st))
		for _, d := range st.Datasets {
			fmt.Fprintf(w, "  %s\t%d rows, oldest %s\n", d.Dataset, d.Rows, seconds(d.OldestSeconds))
		}
		fmt.Fprintf(w, "greatest published id\t%d\n", st.High)
		for _, problem := range st.Problems {
			fmt.Fprintf(w, "PROBLEM\t%s\n", problem)
		}
		fmt.Fprintf(w, "dead rows\t%d\n", st.Dead)
		for _, d := range st.DeadRows {
			fmt.Fprintf(w, "  %d\t%s %q, refused %s: %s\n", d.ID, d.Dataset, d.Key, d.RefusedAt.UTC().Format(time.RFC3339), d.Reason)
		}
		return w.Flush()
	})
}

func activeRelay(st relay.Status) string {
	if st.Owner == "" {
		return "none"
	}
	return st.Owner
}

func backlog(st relay.Status) string {
	if st.Backlog >= relay.CountLimit {
		return fmt.Sprintf("at least %d rows, oldest %s", st.Backlog, seconds(st.OldestSeconds))
	}
	return fmt.Sprintf("%d rows, oldest %s", st.Backlog, seconds(st.OldestSeconds))
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}
