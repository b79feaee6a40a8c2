package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/admin/report"
)

func inspectCommand(p *program) *cobra.Command {
	var data, invalidate bool
	var reason string
	cmd := p.apiCommand(&cobra.Command{
		Use: "inspect DATASET KEY", Short: "Print one record on every tier, and whether its copies agree",
		Long: "Print the record's last events in Kafka, its replica row, its shared entry, what each node holds, and a verdict.\n" +
			"The exit code is 1 when a copy is older than it should be.",
		Args: args(cobra.ExactArgs(2)),
	}, func(ctx context.Context, a *apiClient, args []string) error {
		path := "/v1/records/" + url.PathEscape(args[0]) + "/" + url.PathEscape(args[1])
		if invalidate {
			var out struct{ Token string }
			if _, err := a.call(ctx, http.MethodPost, path+"/invalidate", map[string]string{"reason": reason}, &out); err != nil {
				return err
			}
		}
		var r api.Record
		raw, err := a.call(ctx, http.MethodGet, path+fmt.Sprintf("?data=%t", data), nil, &r)
		if err != nil {
			return err
		}
		if p.json {
			err = p.printRaw(raw)
		} else {
			err = printRecord(p.out, &r)
		}
		if err == nil && !r.Fresh {
			return errReported
		}
		return err
	})
	cmd.Flags().BoolVar(&data, "data", false, "show content; needs the role operator")
	cmd.Flags().BoolVar(&invalidate, "invalidate", false, "make the cached copies stale first")
	cmd.Flags().StringVar(&reason, "reason", "by hand", "why it is invalidated; it is kept in the audit log")
	return cmd
}

func printRecord(out io.Writer, r *api.Record) error {
	fmt.Fprintln(out, r.Verdict)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, e := range r.Kafka.Events {
		fmt.Fprintf(w, "kafka %s/%d\toffset %d\tversion %d\t%s\t%s %s\n", r.Topic, e.Partition, e.Offset, e.Version, e.Op, e.Time.Format(time.RFC3339), e.Problem)
	}
	fmt.Fprintf(w, "kafka %s/%d\tgroup at %d\tlooked through %d … %d\n", r.Topic, r.Partition, r.Kafka.Committed, r.Kafka.From, r.Kafka.To)
	printRow(w, r.Row)
	printShared(w, r.Shared)
	for _, n := range r.Nodes {
		fmt.Fprintf(w, "node %s\theld %t\tversion %d\tserved %t\n", n.Node, n.Held, n.Version, n.Served)
	}
	for _, l := range r.Letters {
		fmt.Fprintf(w, "dead letter %s\tversion %d\t%s\t%s\n", l.ID, l.Version, l.Reason, l.Detail)
	}
	return w.Flush()
}

func printRow(w io.Writer, row *api.RowSide) {
	if row == nil {
		fmt.Fprintln(w, "replica\tno row")
		return
	}
	fmt.Fprintf(w, "replica\tversion %d\tdeleted %t\t%s\t%s\n", row.Version, row.Deleted, row.At.Format(time.RFC3339), row.Data)
}

func printShared(w io.Writer, s *report.Shared) {
	if s != nil {
		fmt.Fprintf(w, "shared %s\t%s\tversion %d\tvalid %t\tttl %.0f s\tfloor %d\n", s.Name, s.State, s.Version, s.Valid, s.TTL, s.Floor)
	}
}
