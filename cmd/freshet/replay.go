package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/replica/jobstore"
)

func replayCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use: "replay", Short: "Apply past events again, through the guards of live ones", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s start, status, watch, pause, resume, cancel, limit or list", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(replayStart(p), replayList(p), replayLimit(p))
	cmd.AddCommand(replayOne(p, "status", "Print a replay", func(ctx context.Context, a *apiClient, id, _ string) error {
		var r api.Replay
		raw, err := a.call(ctx, http.MethodGet, "/v1/replays/"+id, nil, &r)
		return printReplay(p, raw, &r, err)
	}))
	cmd.AddCommand(replayOne(p, "watch", "Follow a replay until it ends", func(ctx context.Context, a *apiClient, id, _ string) error {
		return watchReplay(ctx, p, a, id)
	}))
	for verb, short := range map[string]string{"pause": "Pause a replay", "resume": "Let a paused replay continue", "cancel": "End a replay; what it applied stays"} {
		cmd.AddCommand(replayOne(p, verb, short, func(ctx context.Context, a *apiClient, id, reason string) error {
			var r api.Replay
			raw, err := a.call(ctx, http.MethodPost, "/v1/replays/"+id+"/"+verb, map[string]string{"reason": reason}, &r)
			return printReplay(p, raw, &r, err)
		}))
	}
	return cmd
}

func replayOne(p *program, verb, short string, do func(ctx context.Context, a *apiClient, id, reason string) error) *cobra.Command {
	var reason string
	cmd := p.apiCommand(&cobra.Command{Use: verb + " ID", Short: short, Args: args(cobra.ExactArgs(1))},
		func(ctx context.Context, a *apiClient, args []string) error {
			return do(ctx, a, url.PathEscape(args[0]), reason)
		})
	if verb != "status" && verb != "watch" {
		cmd.Flags().StringVar(&reason, "reason", "by hand", "why; it is kept in the audit log")
	}
	return cmd
}

func replayLimit(p *program) *cobra.Command {
	var rate, names int
	var cmd *cobra.Command
	cmd = p.apiCommand(&cobra.Command{Use: "limit ID", Short: "Change the limits of a replay while it runs", Args: args(cobra.ExactArgs(1))},
		func(ctx context.Context, a *apiClient, args []string) error {
			body := map[string]int{}
			for field, v := range map[string]int{"rate": rate, "invalidation_rate": names} {
				if cmd.Flags().Changed(strings.ReplaceAll(field, "_", "-")) {
					body[field] = v
				}
			}
			if len(body) == 0 {
				return usageError{errors.New("give --rate, --invalidation-rate or both; what is not given stays unchanged")}
			}
			var r api.Replay
			raw, err := a.call(ctx, http.MethodPost, "/v1/replays/"+url.PathEscape(args[0])+"/limits", body, &r)
			return printReplay(p, raw, &r, err)
		})
	cmd.Flags().IntVar(&rate, "rate", 0, "events a second; 0: 5000")
	cmd.Flags().IntVar(&names, "invalidation-rate", 0, "names a second; 0: no limit of their own")
	return cmd
}

const rebuildAction = string(jobstore.ActionRebuild)

func replayStart(p *program) *cobra.Command {
	var apply, watch, rebuild, dropOld, acceptLoss bool
	var key string
	body := map[string]any{}
	cmd := &cobra.Command{
		Use: "start DATASET", Short: "Start a replay; a dry run that only counts, unless --apply is given",
		Long: "Start a replay of a dataset's topic. Without --apply it is a dry run: it counts what would be applied, what is stale and\n" +
			"what is invalid, and changes nothing. No row goes back, and the positions of live traffic do not move.\n\n" +
			"With --action redrive the dataset's open dead letters are applied, under the versions that they keep; --key, --prefix, --op,\n" +
			"--letter-reason and --errno choose among them.\n\n" +
			"With --rebuild the whole topic is read into a new table, which then takes the place of the dataset's one: for a table that\n" +
			"was changed by hand, whose rows have versions that the guards would not go below. Live traffic continues meanwhile. A rebuild that\n" +
			"would take rows back or drop some is refused without --accept-loss; its dry run counts them.",
		Args: args(cobra.ExactArgs(1)),
	}
	fs := cmd.Flags()
	action := fs.String("action", "apply", "apply, invalidate, apply+invalidate, redrive (open dead letters instead of the topic), or rebuild")
	fs.BoolVar(&rebuild, "rebuild", false, "the same as --action rebuild")
	fs.BoolVar(&dropOld, "drop-old", false, "with --rebuild: drop the previous table instead of keeping it under another name")
	fs.BoolVar(&acceptLoss, "accept-loss", false, "with --rebuild: swap although rows are newer than what the topic holds of them, or not in it")
	from := fs.String("from", "start", "start, end-N, an offset, or a time (RFC 3339)")
	until := fs.String("until", "end", "end, an offset, or a time (RFC 3339)")
	partitions := fs.Int32Slice("partitions", nil, "only these")
	keys := fs.StringArray("key", nil, "only this record; may be given several times")
	prefix := fs.String("prefix", "", "only records whose keys begin so")
	op := fs.String("op", "", "only upsert or delete")
	typ := fs.String("type", "", "only this event type")
	letterReason := fs.String("letter-reason", "", "with --action redrive: only dead letters for this reason, such as refused or schema")
	errno := fs.Uint16("errno", 0, "with --action redrive: only dead letters of refusals with this MySQL error number")
	rate := fs.Int("rate", 0, "events a second; 0: 5000")
	names := fs.Int("invalidation-rate", 0, "names a second; 0: no limit of their own")
	reason := fs.String("reason", "by hand", "why; it is kept in the audit log")
	fs.StringVar(&key, "idempotency-key", "", "a repetition with the same key starts nothing")
	fs.BoolVar(&apply, "apply", false, "apply instead of counting")
	fs.BoolVar(&watch, "watch", false, "follow it until it ends")
	return p.apiCommand(cmd, func(ctx context.Context, a *apiClient, args []string) error {
		if rebuild && cmd.Flags().Changed("action") && *action != rebuildAction {
			return usageError{errors.New("give --rebuild or --action, not both")}
		}
		if rebuild {
			*action = rebuildAction
		}
		if dropOld {
			body["drop_old"] = true
		}
		if acceptLoss {
			body["accept_loss"] = true
		}
		for name, v := range map[string]any{
			"dataset": args[0], "action": *action, "from": *from, "until": *until, "dry_run": !apply, "rate": *rate, "invalidation_rate": *names, "reason": *reason,
		} {
			body[name] = v
		}
		for name, v := range map[string]string{"prefix": *prefix, "op": *op, "type": *typ, "letter_reason": *letterReason} {
			if v != "" {
				body[name] = v
			}
		}
		if *errno != 0 {
			body["errno"] = *errno
		}
		if len(*partitions) > 0 {
			body["partitions"] = *partitions
		}
		if len(*keys) > 0 {
			body["keys"] = *keys
		}
		var headers []string
		if key != "" {
			headers = []string{"Idempotency-Key", key}
		}
		var r api.Replay
		raw, err := a.call(ctx, http.MethodPost, "/v1/replays", body, &r, headers...)
		if err != nil || !watch {
			return printReplay(p, raw, &r, err)
		}
		return watchReplay(ctx, p, a, r.ID)
	})
}

func replayList(p *program) *cobra.Command {
	var after string
	var limit int
	cmd := p.apiCommand(&cobra.Command{Use: "list", Short: "Print replays, newest first", Args: args(cobra.NoArgs)},
		func(ctx context.Context, a *apiClient, _ []string) error {
			if limit < 0 {
				return usageError{errors.New("--limit is not negative")}
			}
			out, err := replays(ctx, a, after, limit)
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(map[string]any{"items": out})
			}
			w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tDATASET\tACTION\tSTATE\tEVENTS\tAPPLIED\tBY\tCREATED\tREASON")
			for _, r := range out {
				action := r.Spec.Action
				if r.Spec.DryRun {
					action += " (dry run)"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", r.ID, r.Spec.Dataset, action, r.State, r.Total.Events, r.Total.Applied, r.Actor, r.Created.Format("2006-01-02 15:04:05"), r.Spec.Reason)
			}
			return w.Flush()
		})
	cmd.Flags().StringVar(&after, "after", "", "begin after the replay with this id")
	cmd.Flags().IntVar(&limit, "limit", 50, "at most so many; 0: all")
	return cmd
}

// replayPage is the most that the API returns at once.
const replayPage = 500

// replays reads replays page by page; limit 0 means all.
func replays(ctx context.Context, a *apiClient, after string, limit int) ([]api.Replay, error) {
	out := []api.Replay{}
	for {
		page := replayPage
		if limit > 0 {
			page = min(page, limit-len(out))
		}
		var got struct{ Items []api.Replay }
		if _, err := a.call(ctx, http.MethodGet, fmt.Sprintf("/v1/replays?limit=%d&after=%s", page, url.QueryEscape(after)), nil, &got); err != nil {
			return nil, err
		}
		out = append(out, got.Items...)
		if len(got.Items) < page || len(out) == limit {
			return out, nil
		}
		after = got.Items[len(got.Items)-1].ID
	}
}

// watchReplay prints a replay as it goes; the exit code is 1 unless it ends well.
func watchReplay(ctx context.Context, p *program, a *apiClient, id string) error {
	var last api.Replay
	var raw json.RawMessage
	live := isTerminal(p.err) && !p.json
	err := a.follow(ctx, "/v1/replays/"+id+"/events", func(data []byte) error {
		last = api.Replay{}
		raw = append(raw[:0], data...)
		if err := json.Unmarshal(data, &last); err != nil {
			return fmt.Errorf("read stream: %w", err)
		}
		if live {
			fmt.Fprintf(p.err, "\r\x1b[K%s", replayBar(&last))
		}
		return nil
	})
	if live {
		fmt.Fprintln(p.err)
	}
	if err := printReplay(p, raw, &last, err); err != nil {
		return err
	}
	if last.State != "done" {
		return errReported
	}
	return nil
}

const replayBarWidth = 30

func replayBar(r *api.Replay) string {
	var done, all int64
	var speed float64
	for _, part := range r.Parts {
		done, all, speed = done+part.Next-part.From, all+part.End-part.From, speed+part.Rate
	}
	share := 1.0
	if all > 0 {
		share = float64(done) / float64(all)
	}
	n := int(share * replayBarWidth)
	return fmt.Sprintf("[%s%s] %3.0f %%  %.0f/s  %s", strings.Repeat("=", n), strings.Repeat(" ", replayBarWidth-n), 100*share, speed, r.State)
}

func printReplay(p *program, raw json.RawMessage, r *api.Replay, err error) error {
	if err != nil {
		return err
	}
	if p.json {
		return p.printRaw(raw)
	}
	what := "replay"
	if r.Spec.DryRun {
		what = "dry run"
	}
	t := r.Total
	if r.Spec.Action == string(jobstore.ActionRebuild) {
		what = strings.Replace(what, "replay", "rebuild", 1)
	}
	unit := "events"
	if r.Spec.Action == string(jobstore.ActionRedrive) {
		what, unit = strings.Replace(what, "replay", "redrive", 1), "letters"
	}
	state := r.State
	if r.Problem != "" {
		state += ": " + r.Problem
	}
	fmt.Fprintf(p.out, "%s %s of %s: %s\n", what, r.ID, r.Spec.Dataset, state)
	if r.Spec.DryRun && r.Spec.Action == string(jobstore.ActionRebuild) {
		fmt.Fprintln(p.out, "a new table would be filled from the whole topic; applied and stale are counted against a table without rows")
	}
	fmt.Fprintf(p.out, "%d %s: %d applied, %d stale, %d invalid, %d skipped; %d names invalidated\n", t.Events, unit, t.Applied, t.Stale, t.Invalid, t.Skipped, t.Invalidated)
	w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
	for _, part := range r.Parts {
		fmt.Fprintf(w, "partition %d\t%3.0f %%\t%d … %d … %d\t%.0f/s\tETA %s\n", part.Partition, 100*part.Done, part.From, part.Next, part.End, part.Rate, eta(part.ETA))
		for _, s := range part.Samples {
			fmt.Fprintf(w, "\t%s\toffset %d\tversion %d\t%s\t%s\n", s.Outcome, s.Offset, s.Version, s.Key, s.Detail)
		}
	}
	return w.Flush()
}
