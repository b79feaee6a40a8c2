package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
)

func nodesCommand(p *program) *cobra.Command {
	cmd := p.apiCommand(&cobra.Command{
		Use: "nodes", Short: "Print the nodes and workers that are alive", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, a *apiClient, _ []string) error {
		var out struct {
			Nodes, Strays []api.Node
			Workers       []api.WorkerState
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
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%.0f s ago\t%s\t\n", x.Owner, x.Version, workerState(x), len(x.Partitions), x.Seconds, x.Address)
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

// workerState is what a worker does, or the first reason why it does not.
func workerState(x api.WorkerState) string {
	switch {
	case !x.Alive:
		return "gone"
	case len(x.NotReady) > 0:
		return x.NotReady[0]
	case len(x.Degraded) > 0:
		return "works in part: " + x.Degraded[0]
	}
	return "works"
}
