package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/report"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/consistency"
	"github.com/freshet/freshet/schemas"
)

func verifyCommand(p *program) *cobra.Command {
	var v verification
	cmd := &cobra.Command{
		Use:   "verify [DATASET...]",
		Short: "Compare cached copies with the replica: shared entries, and what each node holds",
		Long: "Walk through the replica rows of the datasets (all of them when none is named) and ask the shared tier and every node for their\n" +
			"versions. A copy that readers get and that is older than its row is looked at again after --wait, which must be longer than a\n" +
			"node may serve without a proof (MaxStaleness); the exit code is 1 when it still is. Workers do the same all the time with a few records (worker.samples).",
		RunE: func(cmd *cobra.Command, names []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			r, err := v.run(cmd.Context(), l.Config, log, names)
			if err != nil {
				return err
			}
			return printReport(p, &r)
		},
	}
	cmd.Flags().IntVar(&v.records, "records", 1000, "most rows of each dataset; 0: all")
	cmd.Flags().StringVar(&v.after, "after", "", "begin behind this key; needs one dataset")
	cmd.Flags().DurationVar(&v.wait, "wait", 15*time.Second, "how long after the first look a copy may be stale")
	config.Bind(cmd.Flags(), "datasets", "namespace", "lanes", "mysql", "redis", "log")
	return cmd
}

// verification are the flags of the command.
type verification struct {
	records int
	after   string
	wait    time.Duration
}

func (v *verification) run(ctx context.Context, c config.Config, log *slog.Logger, names []string) (consistency.Report, error) {
	if v.records < 0 || v.wait <= 0 {
		return consistency.Report{}, usageError{fmt.Errorf("--records: %d, --wait: %v; give how many rows to look at, or 0 for all, and a time above 0", v.records, v.wait)}
	}
	if v.after != "" && len(names) != 1 {
		return consistency.Report{}, usageError{fmt.Errorf("--after: needs exactly one dataset")}
	}
	set, err := connect.Datasets(c)
	if err != nil {
		return consistency.Report{}, err
	}
	which := set.All()
	if len(names) > 0 {
		for _, name := range names {
			if _, err := connect.Dataset(set, name); err != nil {
				return consistency.Report{}, err
			}
		}
		which = slices.DeleteFunc(slices.Clone(which), func(d *schemas.Dataset) bool { return !slices.Contains(names, d.Name) })
	}
	if !slices.ContainsFunc(which, func(d *schemas.Dataset) bool { return d.Cache != nil }) {
		return consistency.Report{}, usageError{fmt.Errorf("no dataset has a cache section, so nothing of them is cached")}
	}
	db, err := connect.Replica(ctx, c, log)
	if err != nil {
		return consistency.Report{}, err
	}
	defer db.Close()
	rdb, err := connect.Redis(c)
	if err != nil {
		return consistency.Report{}, err
	}
	defer rdb.Close()
	tiers, err := consistency.NewReader(rdb, c.Namespace, c.Lanes)
	if err != nil {
		return consistency.Report{}, err
	}
	r, err := consistency.Verify(ctx, consistency.Config{Datasets: set, Replica: db.Rows, Tiers: tiers, Confirm: v.wait, Logger: log}, v.after, v.records, which...)
	if err != nil {
		return r, fmt.Errorf("verify: %w", err)
	}
	return r, nil
}

func printReport(p *program, r *consistency.Report) error {
	if p.json {
		if err := p.printJSON(r); err != nil {
			return err
		}
	} else {
		for _, s := range slices.Concat(r.Stale, r.Ahead) {
			fmt.Fprintln(p.out, staleText(s)+"; "+staleFix(s))
		}
		fmt.Fprintf(p.out, "%d records, %d copies of them: %d stale, %d ahead of the replica, %d waiting for a worker\n", r.Records, r.Copies, len(r.Stale), len(r.Ahead), r.Waiting)
	}
	if len(r.Stale)+len(r.Ahead) > 0 {
		return errReported
	}
	return nil
}

func staleText(s report.Stale) string {
	what := "the shared entry"
	if s.Tier == report.TierLocal {
		what = "node " + s.Node
	}
	if s.Ahead {
		return fmt.Sprintf("%s %s: %s has version %d, which is above the replica's %d: changes up to it leave the entry in place", s.Dataset, s.Key, what, s.Version, s.Replica)
	}
	return fmt.Sprintf("%s %s: %s has version %d, the replica has had %d since %s", s.Dataset, s.Key, what, s.Version, s.Replica, s.Since.Format("15:04:05Z07:00"))
}

func staleFix(s report.Stale) string {
	if s.Ahead {
		return fmt.Sprintf("return the row's _version from the loader, or 0 if it cannot know it (or wait, if freshet lag shows a worker that is behind), then freshet inspect %s %s --invalidate --reason '...'", s.Dataset, s.Key)
	}
	return fmt.Sprintf("freshet inspect %s %s --invalidate --reason '...', and report it", s.Dataset, s.Key)
}
