package main

import (
	"context"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
)

func lagCommand(p *program) *cobra.Command {
	return p.apiCommand(&cobra.Command{
		Use: "lag", Short: "Print how far each partition is, whose it is, and what holds it up", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, a *apiClient, _ []string) error {
		var out struct{ Items []api.Partition }
		raw, err := a.call(ctx, http.MethodGet, "/v1/lag", nil, &out)
		if err != nil {
			return err
		}
		if p.json {
			return p.printRaw(raw)
		}
		w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "DATASET\tPARTITION\tCOMMITTED\tEND\tRECORDS\tSECONDS\tETA\tOWNER\tPROBLEM")
		for _, l := range out.Items {
			fmt.Fprintf(w, "%s\t%s/%d\t%d\t%d\t%d\t%.1f\t%s\t%s\t%s\n", l.Dataset, l.Topic, l.Partition, l.Committed, l.End, l.Records, l.Seconds, eta(l.ETA), l.Owner, lagProblem(l))
		}
		return w.Flush()
	})
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
