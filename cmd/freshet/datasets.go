package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/replica"
)

func datasetsCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "datasets",
		Short: "List datasets, and pause or resume one",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s list, pause or resume", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(datasetsList(p), datasetsPause(p), datasetsResume(p))
	return cmd
}

func datasetsList(p *program) *cobra.Command {
	return p.apiCommand(&cobra.Command{
		Use: "list", Short: "Say which datasets are declared, paused, and have open dead letters", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, a *apiClient, _ []string) error {
		var out struct {
			Items []api.DatasetState `json:"items"`
		}
		raw, err := a.call(ctx, http.MethodGet, "/v1/datasets", nil, &out)
		if err != nil {
			return err
		}
		if p.json {
			return p.printRaw(raw)
		}
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "DATASET\tTOPIC\tTABLE\tOPEN LETTERS\tPAUSED")
		for _, d := range out.Items {
			paused := "-"
			if d.Pause != nil {
				paused = fmt.Sprintf("since %s by %s: %s", d.Pause.Since.Format(time.RFC3339), d.Pause.Who, d.Pause.Why)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", d.Name, d.Topic, d.Table, d.Letters[string(replica.StateOpen)], paused)
		}
		return w.Flush()
	})
}

func datasetsPause(p *program) *cobra.Command {
	return datasetsChange(p, &cobra.Command{
		Use: "pause DATASET", Short: "Pause a dataset on all workers until it is resumed, also beyond their restart",
	}, "pause", "", func(map[string]any) {}, func(name string, raw json.RawMessage) error {
		var pause replica.Pause
		if err := json.Unmarshal(raw, &pause); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		fmt.Fprintf(p.out, "dataset %s is paused since %s by %s: %s\n", name, pause.Since.Format(time.RFC3339), pause.Who, pause.Why)
		return nil
	})
}

func datasetsResume(p *program) *cobra.Command {
	var ignore time.Duration
	cmd := datasetsChange(p, &cobra.Command{
		Use: "resume DATASET", Short: "Let a paused dataset continue; workers notice within seconds",
	}, "resume", "by hand", func(body map[string]any) {
		if ignore > 0 {
			body["ignore_storms_seconds"] = int64(ignore / time.Second)
		}
	}, func(name string, raw json.RawMessage) error {
		var out struct {
			Resumed bool `json:"resumed"`
		}
		if err := json.Unmarshal(raw, &out); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		if !out.Resumed {
			fmt.Fprintf(p.out, "dataset %s was not paused\n", name)
			return nil
		}
		fmt.Fprintf(p.out, "dataset %s continues\n", name)
		return nil
	})
	cmd.Flags().DurationVar(&ignore, "ignore-storms", 0, "for how long storms of dead letters do not pause the dataset again, such as 2h; at most 720h")
	return cmd
}

// datasetsChange makes a command that does to a dataset what the verb says, with what add puts into the body, through the admin API, which writes the audit log.
func datasetsChange(p *program, cmd *cobra.Command, verb, reason string, add func(body map[string]any), done func(name string, raw json.RawMessage) error) *cobra.Command {
	cmd.Args = args(cobra.ExactArgs(1))
	p.apiCommand(cmd, func(ctx context.Context, a *apiClient, args []string) error {
		if reason == "" {
			return usageError{errors.New("say why: --reason '…' is shown to everybody who wonders")}
		}
		body := map[string]any{"reason": reason}
		add(body)
		var out json.RawMessage
		raw, err := a.call(ctx, http.MethodPost, "/v1/datasets/"+url.PathEscape(args[0])+"/"+verb, body, &out)
		switch {
		case err != nil:
			return err
		case p.json:
			return p.printRaw(raw)
		}
		return done(args[0], raw)
	})
	cmd.Flags().StringVar(&reason, "reason", reason, "why; it is kept in the audit log, and a pause's is shown in readiness and by datasets list")
	return cmd
}
