package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/replica"
)

// lettersChange makes a command that changes the dead letters that a filter chooses, through the admin API, which writes
// the audit log. A forgotten filter must not mean all.
func lettersChange(p *program, cmd *cobra.Command, path string, usual int, answered func(raw json.RawMessage) error) *cobra.Command {
	var f letterFlags
	var all, apply bool
	var why string
	cmd.Args = args(cobra.NoArgs)
	p.apiCommand(cmd, func(ctx context.Context, a *apiClient, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		if (f.LetterFilter == api.LetterFilter{}) && !all {
			return usageError{errors.New("choose dead letters by --dataset, --reason, --key, --topic, --source, --errno, --detail or --since, or say --all")}
		}
		if f.limit == 0 {
			f.limit = usual
		}
		body := struct {
			api.LetterFilter
			All    bool   `json:"all"`
			DryRun bool   `json:"dry_run"`
			Limit  int    `json:"limit"`
			Why    string `json:"why"`
		}{f.LetterFilter, all, !apply, f.limit, why}
		var out json.RawMessage
		raw, err := a.call(ctx, http.MethodPost, path, body, &out)
		switch {
		case err != nil:
			return err
		case p.json:
			return p.printRaw(raw)
		}
		return p.hintApply(!apply, answered(raw))
	})
	f.bind(cmd)
	fs := cmd.Flags()
	fs.Lookup("limit").Usage = fmt.Sprintf("at most so many dead letters; 0: %d", usual)
	fs.BoolVar(&all, "all", false, "all open dead letters")
	bindApply(cmd, &apply)
	fs.StringVar(&why, "why", "by hand", "why; it is kept in the audit log")
	return cmd
}

func lettersDiscard(p *program) *cobra.Command {
	return lettersChange(p, &cobra.Command{Use: "discard", Short: "Discard open dead letters: they are kept, but are not counted as open any more"},
		"/v1/deadletters/discards", 100_000, func(raw json.RawMessage) error {
			var d api.Discard
			if err := json.Unmarshal(raw, &d); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
			what := "are"
			if d.DryRun {
				what = "would be"
			}
			fmt.Fprintf(p.out, "%d dead letters %s discarded\n", d.Letters, what)
			if d.Left > 0 {
				fmt.Fprintf(p.out, "%d more are meant and were left out; --limit takes more\n", d.Left)
			}
			return nil
		})
}

func lettersRedrive(p *program) *cobra.Command {
	return lettersChange(p, &cobra.Command{
		Use: "redrive", Short: "Apply the events of open dead letters again, under the versions that they came with",
		Long: "Applies each dead letter's event by the same guarded statements as a worker: one whose record is as new or newer changes nothing\n" +
			"and is superseded; one that is still bad stays open with the reason of now. Nothing is published to the dataset's topic.\n" +
			"Cache entries of rows that changed are invalidated through the topic freshet.invalidations.<namespace>.\n\n" +
			"It is one request. For many dead letters, or at a limited rate: freshet replay start DATASET --action redrive, which can be\n" +
			"paused, and which another worker takes over.",
	}, "/v1/deadletters/redrives", 1000, func(raw json.RawMessage) error { return printRedrive(p.out, raw) })
}

func printRedrive(out io.Writer, raw json.RawMessage) error {
	var r api.Redrive
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	applied := "applied"
	if r.DryRun {
		applied = "would be applied"
	}
	n := func(o replica.Outcome) int64 { return r.Outcomes[string(o)] }
	fmt.Fprintf(out, "%d %s, %d stale, %d invalid, %d can never be redriven, %d not open any more\n", n(replica.OutcomeApplied), applied,
		n(replica.OutcomeStale), n(replica.OutcomeInvalid), n(replica.OutcomeUnfit), n(replica.OutcomeClosed))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, l := range r.Samples {
		fmt.Fprintf(w, "%s\t%s\t%s\t%q\tversion %d\t%s\t%s\n", l.Outcome, l.ID, l.Dataset, l.Key, l.Version, l.Reason, l.Detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.Left > 0 {
		fmt.Fprintf(out, "%d more are meant and were left out: freshet replay start DATASET --action redrive takes any number\n", r.Left)
	}
	if !r.Token.IsZero() {
		fmt.Fprintf(out, "token %s\n", r.Token)
	}
	return nil
}

// bindApply adds the flag without which a command that changes or removes something only says what it would do. --dry-run says the same and
// may be given.
func bindApply(cmd *cobra.Command, apply *bool) {
	fs := cmd.Flags()
	fs.BoolVar(apply, "apply", false, "do it; without, say what would be done, and do nothing")
	fs.Bool("dry-run", true, "the default")
	cmd.MarkFlagsMutuallyExclusive("apply", "dry-run")
}

// hintApply says after a dry run how to do it.
func (p *program) hintApply(dry bool, err error) error {
	if dry && err == nil {
		fmt.Fprintln(p.out, "nothing was changed: --apply does it")
	}
	return err
}
