package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/config"
	"github.com/freshet/freshet/schemas"
)

func (p *program) datasetsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "datasets",
		Short: "List datasets, and set one aside or let it go on",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s list, pause or resume", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(p.datasetsList(), p.datasetsPause(), p.datasetsResume())
	return cmd
}

// onReplica makes a command that works on the replica database and the declared datasets.
func (p *program) onReplica(cmd *cobra.Command, do func(ctx context.Context, s *replicaSession, a []string) error, groups ...string) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		l, log, err := p.load(cmd)
		if err != nil {
			return err
		}
		set, err := loadDatasets(l.Config)
		if err != nil {
			return err
		}
		db, err := openReplica(cmd.Context(), l.Config, log)
		if err != nil {
			return err
		}
		defer db.Close()
		return do(cmd.Context(), &replicaSession{MySQL: db, config: l.Config, datasets: set}, a)
	}
	config.Bind(cmd.Flags(), append(groups, "datasets", "mysql", "log")...)
	return cmd
}

// replicaSession is what such a command has at hand.
type replicaSession struct {
	*replica.MySQL
	config   config.Config
	datasets *schemas.Datasets
}

func (s *replicaSession) dataset(name string) (*schemas.Dataset, error) {
	d, ok := s.datasets.Get(name)
	if !ok {
		var names []string
		for _, d := range s.datasets.All() {
			names = append(names, d.Name)
		}
		return nil, usageError{fmt.Errorf("dataset %q is not declared; there are %s", name, strings.Join(names, ", "))}
	}
	return d, nil
}

// datasetLine is one dataset as datasets list prints it.
type datasetLine struct {
	Dataset string         `json:"dataset"`
	Topic   string         `json:"topic"`
	Table   string         `json:"table"`
	Open    int64          `json:"open_letters"`
	Paused  *replica.Pause `json:"paused,omitempty"`
}

func (p *program) datasetsList() *cobra.Command {
	return p.onReplica(&cobra.Command{
		Use: "list", Short: "Say which datasets are declared, paused, and have open dead letters", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, s *replicaSession, _ []string) error {
		pauses, err := s.Pauses(ctx)
		if err != nil {
			return err
		}
		lines := []datasetLine{}
		for _, d := range s.datasets.All() {
			counts, err := s.CountLetters(ctx, d.Name)
			if err != nil {
				return err
			}
			l := datasetLine{Dataset: d.Name, Topic: d.Topic, Table: d.Replica.Table, Open: counts[replica.StateOpen]}
			if pause, ok := pauses[d.Name]; ok {
				l.Paused = &pause
			}
			lines = append(lines, l)
		}
		if p.json {
			return p.printJSON(lines)
		}
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "DATASET\tTOPIC\tTABLE\tOPEN LETTERS\tPAUSED")
		for _, l := range lines {
			paused := "-"
			if l.Paused != nil {
				paused = fmt.Sprintf("since %s by %s: %s", l.Paused.Since.Format(time.RFC3339), l.Paused.Who, l.Paused.Why)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", l.Dataset, l.Topic, l.Table, l.Open, paused)
		}
		return w.Flush()
	})
}

func (p *program) datasetsPause() *cobra.Command {
	var why, who string
	cmd := p.onReplica(&cobra.Command{
		Use: "pause DATASET", Short: "Set a dataset aside on all workers until it is resumed, also beyond their restart", Args: args(cobra.ExactArgs(1)),
	}, func(ctx context.Context, s *replicaSession, a []string) error {
		d, err := s.dataset(a[0])
		switch {
		case err != nil:
			return err
		case why == "":
			return usageError{errors.New("say why: --reason '…' is shown to everybody who wonders")}
		}
		pause, err := s.Pause(ctx, d.Name, cmp.Or(who, whoami()), why)
		if err != nil {
			return err
		}
		if p.json {
			return p.printJSON(pause)
		}
		fmt.Fprintf(p.out, "dataset %s is paused since %s by %s: %s\n", d.Name, pause.Since.Format(time.RFC3339), pause.Who, pause.Why)
		return nil
	})
	cmd.Flags().StringVar(&why, "reason", "", "why; shown in readiness and by datasets list")
	cmd.Flags().StringVar(&who, "who", "", "who pauses it; empty: user and host")
	return cmd
}

func (p *program) datasetsResume() *cobra.Command {
	return p.onReplica(&cobra.Command{
		Use: "resume DATASET", Short: "Let a paused dataset go on; workers notice within seconds", Args: args(cobra.ExactArgs(1)),
	}, func(ctx context.Context, s *replicaSession, a []string) error {
		// A dataset that is not declared any more may still have a pause to remove.
		was, err := s.Resume(ctx, a[0])
		if err != nil {
			return err
		}
		if p.json {
			return p.printJSON(map[string]any{"dataset": a[0], "was_paused": was})
		}
		if !was {
			fmt.Fprintf(p.out, "dataset %s was not paused\n", a[0])
			return nil
		}
		fmt.Fprintf(p.out, "dataset %s goes on\n", a[0])
		return nil
	})
}

// whoami names the user and the host, as far as they are known.
func whoami() string {
	host, _ := os.Hostname()
	parts := slices.DeleteFunc([]string{cmp.Or(os.Getenv("USER"), os.Getenv("LOGNAME")), host}, func(s string) bool { return s == "" })
	return cmp.Or(strings.Join(parts, "@"), "somebody")
}
