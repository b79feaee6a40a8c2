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

	"github.com/freshet/freshet/admin"
	"github.com/freshet/freshet/consistency"
)

func (p *program) lagCommand() *cobra.Command {
	return p.apiCommand(&cobra.Command{
		Use: "lag", Short: "Print how far each partition is, whose it is, and what holds it up", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, a *apiClient, _ []string) error {
		var out struct{ Items []admin.Partition }
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

func lagProblem(l admin.Partition) string {
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

func (p *program) nodesCommand() *cobra.Command {
	cmd := p.apiCommand(&cobra.Command{
		Use: "nodes", Short: "Print the nodes and workers that are alive", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, a *apiClient, _ []string) error {
		var out struct {
			Nodes, Strays []admin.Node
			Workers       []admin.WorkerState
		}
		raw, err := a.call(ctx, http.MethodGet, "/v1/nodes", nil, &out)
		if err != nil {
			return err
		}
		if p.json {
			return p.printRaw(raw)
		}
		w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "NODE\tHOST\tSTATE\tLANE\tPROOF AGE\tFLUSHES\tENTRIES\tHIT RATIO")
		for _, n := range out.Nodes {
			state := "serves"
			switch {
			case n.Suspect:
				state = "bypasses"
			case len(n.NotReady) > 0:
				state = "serves in part"
			}
			entries, hits := 0, 0.0
			for _, c := range n.Caches {
				entries += c.Entries
				hits = max(hits, c.HitRatio)
			}
			for _, l := range n.Lanes {
				flushes := int64(0)
				for _, f := range l.Flushes {
					flushes += f
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d at %s\t%.1f s\t%d\t%d\t%.3f\n", n.ID, n.Host, state, l.Lane, l.Position, l.ProofAge, flushes, entries, hits)
			}
		}
		fmt.Fprintln(w, "\nWORKER\tVERSION\tSTATE\tPARTITIONS\tSEEN\tADDRESS\t")
		for _, x := range out.Workers {
			state := "works"
			switch {
			case !x.Alive:
				state = "gone"
			case len(x.NotReady) > 0:
				state = x.NotReady[0]
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%.0f s ago\t%s\t\n", x.Owner, x.Version, state, len(x.Partitions), x.Seconds, x.Address)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		for _, n := range out.Nodes {
			for _, why := range n.NotReady {
				fmt.Fprintf(p.out, "\n%s does not cache: %s\n", n.ID, why)
			}
		}
		for _, n := range out.Strays {
			fmt.Fprintf(p.out, "\n%s on %s is in namespace %s, where a lane is missing; if it belongs to this one, correct its Config.Namespace\n", n.ID, n.Host, n.Namespace)
		}
		return nil
	})
	var reason string
	flush := p.apiCommand(&cobra.Command{
		Use: "flush NODE", Short: "Make one node forget its local entries", Args: args(cobra.ExactArgs(1)),
	}, func(ctx context.Context, a *apiClient, args []string) error {
		var out map[string]any
		raw, err := a.call(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(args[0])+"/flush", map[string]string{"reason": reason}, &out)
		if err != nil {
			return err
		}
		if p.json {
			return p.printRaw(raw)
		}
		fmt.Fprintf(p.out, "node %s has forgotten its local entries\n", args[0])
		return nil
	})
	flush.Flags().StringVar(&reason, "reason", "by hand", "why; it is kept in the audit log")
	cmd.AddCommand(flush)
	return cmd
}

func (p *program) inspectCommand() *cobra.Command {
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
		var r admin.Record
		raw, err := a.call(ctx, http.MethodGet, path+fmt.Sprintf("?data=%t", data), nil, &r)
		if err != nil {
			return err
		}
		if p.json {
			err = p.printRaw(raw)
		} else {
			err = p.printRecord(&r)
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

func (p *program) printRecord(r *admin.Record) error {
	fmt.Fprintln(p.out, r.Verdict)
	w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
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

func printRow(w io.Writer, row *admin.RowSide) {
	if row == nil {
		fmt.Fprintln(w, "replica\tno row")
		return
	}
	fmt.Fprintf(w, "replica\tversion %d\tdeleted %t\t%s\t%s\n", row.Version, row.Deleted, row.At.Format(time.RFC3339), row.Data)
}

func printShared(w io.Writer, s *consistency.Shared) {
	if s != nil {
		fmt.Fprintf(w, "shared %s\t%s\tversion %d\tvalid %t\tttl %.0f s\tfloor %d\n", s.Name, s.State, s.Version, s.Valid, s.TTL, s.Floor)
	}
}
