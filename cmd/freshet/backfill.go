package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/backfill"
	"github.com/freshet/freshet/internal/mysql"
)

const backfillHelp = `Read the rows of a source table and enqueue each as an event of the outbox, so that a replica receives rows that existed
before the service published its changes. Rows are read in chunks by their key; each chunk is locked for the few
milliseconds of its transaction, so its versions are right while services write.

Afterwards records that the replica has and the source has not are enqueued as deletions (--no-deletions leaves them).

Versions are those of the outbox: a service that publishes versions of its own has to use the outbox first, or its later
changes are ignored.

It can be interrupted at any time: the next run continues where this one stopped. It pauses while the outbox is long or
the server is busy. relay.dsn is the source database, mysql.dsn the replica.`

// backfillFlags are the flags of the command.
type backfillFlags struct {
	table       string
	columns     map[string]string
	rate        float64
	rest        float64
	maxBacklog  int
	maxRunning  int
	skipInvalid bool
	restart     bool
	noDeletions bool
	deletions   int
}

func backfillCommand(p *program) *cobra.Command {
	var f backfillFlags
	cmd := &cobra.Command{
		Use:   "backfill DATASET",
		Short: "Enqueue the rows of a source table, and deletions of what it does not have",
		Long:  backfillHelp,
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			return runBackfill(cmd.Context(), p, l.Config, a[0], f, log)
		},
	}
	cmd.Flags().StringVar(&f.table, "table", "", "source table, TABLE or DATABASE.TABLE; empty: the name of the replica table")
	cmd.Flags().StringToStringVar(&f.columns, "column", nil, "PROPERTY=COLUMN of a property whose column has another name; several by commas")
	cmd.Flags().Float64Var(&f.rate, "rate", 0, "most rows a second; 0: no limit")
	cmd.Flags().Float64Var(&f.rest, "rest", backfill.DefaultRest, "how long to leave the server to others after each chunk, in multiples of the chunk's time; -1: not at all")
	cmd.Flags().IntVar(&f.maxBacklog, "max-backlog", backfill.DefaultMaxBacklog, "pause while the outbox has more rows")
	cmd.Flags().IntVar(&f.maxRunning, "max-running", backfill.DefaultMaxRunning, "pause while the server runs more threads")
	cmd.Flags().BoolVar(&f.skipInvalid, "skip-invalid", false, "count and log rows that the schema refuses, and continue")
	cmd.Flags().BoolVar(&f.restart, "restart", false, "begin with the first row again")
	cmd.Flags().IntVar(&f.deletions, "max-deletions", 0, "refuse to delete more records than this; 0: a tenth of the rows, at least 1000; -1: no limit")
	cmd.Flags().BoolVar(&f.noDeletions, "no-deletions", false, "do not look for records that only the replica has")
	config.Bind(cmd.Flags(), "datasets", "relay", "mysql", "log")
	return cmd
}

func runBackfill(ctx context.Context, p *program, c config.Config, name string, f backfillFlags, log *slog.Logger) error {
	set, err := connect.Datasets(c)
	if err != nil {
		return err
	}
	d, err := connect.Dataset(set, name)
	if err != nil {
		return err
	}
	mc, err := connect.Source(c, log)
	if err != nil {
		return err
	}
	source, err := mysql.Open(ctx, mc)
	if err != nil {
		return err
	}
	defer source.Close()
	cfg := backfill.Config{
		Source: source, Dataset: d, Table: f.table, Columns: f.columns, Rate: f.rate, Rest: f.rest, MaxBacklog: f.maxBacklog, MaxRunning: f.maxRunning,
		SkipInvalid: f.skipInvalid, Restart: f.restart, KeepMissing: f.noDeletions, MaxDeletions: f.deletions, Logger: log,
	}
	if c.MySQL.DSN != "" {
		db, err := connect.Replica(ctx, c, log)
		if err != nil {
			return fmt.Errorf("open the replica: %w", err)
		}
		defer db.Close()
		cfg.Replica = db.Rows
	} else {
		log.WarnContext(ctx, "mysql.dsn is not set: records that only the replica has, and versions that the outbox does not exceed, are not looked for")
	}
	var last backfill.Progress
	cfg.Report = func(pr backfill.Progress) {
		last = pr
		if !p.json {
			printProgress(p.err, pr)
		}
	}
	l, err := backfill.New(ctx, cfg)
	if err != nil {
		return usageError{err}
	}
	err = l.Run(ctx)
	if p.json {
		return errors.Join(err, p.printJSON(last))
	}
	if err != nil {
		fmt.Fprintln(p.err, "the next run continues here")
		return err
	}
	fmt.Fprintf(p.out, "%s: %d rows and %d deletions enqueued, %d rows skipped, %.0f rows/s\n", name, last.Rows, last.Deletions, last.Invalid, last.RowsPerSecond)
	if last.Invalid > 0 {
		return errReported
	}
	return nil
}

// printProgress writes one line a second, for terminals and logs alike.
func printProgress(w io.Writer, pr backfill.Progress) {
	var parts []string
	switch {
	case pr.Phase == "rows" && pr.Total > 0:
		parts = append(parts, fmt.Sprintf("rows: %d of about %d, %.0f rows/s", pr.Rows, pr.Total, pr.RowsPerSecond))
		if pr.Remaining > 0 {
			parts = append(parts, "about "+pr.Remaining.Round(time.Second).String()+" left")
		}
	default:
		parts = append(parts, fmt.Sprintf("%s: %d rows, %d deletions", pr.Phase, pr.Rows, pr.Deletions))
	}
	if pr.Invalid > 0 {
		parts = append(parts, fmt.Sprintf("%d skipped", pr.Invalid))
	}
	if pr.Paused != "" {
		parts = append(parts, "paused: "+pr.Paused)
	}
	fmt.Fprintln(w, strings.Join(parts, ", "))
}
