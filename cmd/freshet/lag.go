package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/relay"
)

func lagCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "lag", Short: "Print how far each partition is, whose it is, and what delays it", Args: args(cobra.NoArgs),
		Long: "Print how far each partition is, whose it is, and what delays it. If relay.dsn is set, also print the rows that wait in the outbox of\n" +
			"the source database, which this command reads itself.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			a, err := newAPIClient(l.Config.Client)
			if err != nil {
				return err
			}
			return p.lag(cmd.Context(), l.Config, a, log)
		},
	}
	config.Bind(cmd.Flags(), "client", "relay", "log")
	return cmd
}

// lagReport is what lag prints with --json.
type lagReport struct {
	Items  json.RawMessage `json:"items"`
	Outbox *relay.Status   `json:"outbox,omitempty"`
}

func (p *program) lag(ctx context.Context, c config.Config, a *apiClient, log *slog.Logger) error {
	var out lagReport
	if _, err := a.call(ctx, http.MethodGet, "/v1/lag", nil, &out); err != nil {
		return err
	}
	if c.Relay.DSN != "" {
		err := withSource(ctx, c, log, func(pool *mysql.Pool) error {
			st, err := relay.ReadStatus(ctx, pool)
			out.Outbox = &st
			return err
		})
		if err != nil {
			return fmt.Errorf("read the outbox: %w", err)
		}
	}
	if p.json {
		return p.printJSON(out)
	}
	var items []api.Partition
	if err := json.Unmarshal(out.Items, &items); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "DATASET\tPARTITION\tCOMMITTED\tEND\tRECORDS\tSECONDS\tETA\tOWNER\tPROBLEM")
	for _, l := range items {
		fmt.Fprintf(w, "%s\t%s/%d\t%d\t%d\t%d\t%.1f\t%s\t%s\t%s\n", l.Dataset, l.Topic, l.Partition, l.Committed, l.End, l.Records, l.Seconds, eta(l.ETA), l.Owner, lagProblem(l))
	}
	if err := w.Flush(); err != nil || out.Outbox == nil {
		return err
	}
	fmt.Fprintf(p.out, "outbox: %s; active relay: %s\n", backlog(*out.Outbox), activeRelay(*out.Outbox))
	for _, problem := range out.Outbox.Problems {
		fmt.Fprintf(p.out, "outbox: %s\n", problem)
	}
	return nil
}

func eta(seconds *float64) string {
	if seconds == nil {
		return "-"
	}
	return time.Duration(*seconds * float64(time.Second)).Round(time.Second).String()
}

func lagProblem(l api.Partition) string {
	switch {
	case l.Error != "":
		return l.Error
	case l.Paused:
		return "paused"
	case l.Transaction != nil:
		return fmt.Sprintf("%d records wait behind an open transaction of producer %d, last written %s", l.Held, l.Transaction.ProducerID, l.Transaction.LastWrite.UTC().Format(time.RFC3339))
	case l.Held > 0:
		return fmt.Sprintf("%d records wait behind an open transaction", l.Held)
	case l.Owner == "":
		return "no worker has it"
	case !l.Alive:
		return "its worker says nothing any more"
	}
	return ""
}
