package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/replica"
)

func deadlettersCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deadletters",
		Short: "List, group, show, edit, redrive and discard dead letters",
		Long: "A dead letter is an event that could not be applied as it was. It keeps everything of the event and its reason until it\n" +
			"is redriven, discarded, or superseded by a newer event of its record.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s list, groups, show, edit, redrive or discard", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(lettersList(p), lettersGroups(p), lettersShow(p), lettersEdit(p), lettersRedrive(p), lettersDiscard(p))
	return cmd
}

// letterFlags choose letters.
type letterFlags struct {
	api.LetterFilter
	since string
	limit int
}

func (f *letterFlags) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.Dataset, "dataset", "", "only dead letters of this dataset")
	fs.StringVar(&f.Key, "key", "", "only dead letters of the record with this key")
	fs.StringVar(&f.Reason, "reason", "", "only dead letters for this reason: malformed, schema, partial, key, version, dataset, too_large or refused")
	fs.Uint16Var(&f.Errno, "errno", 0, "only dead letters of refusals with this MySQL error number")
	fs.StringVar(&f.Detail, "detail", "", "only dead letters that say exactly this")
	fs.StringVar(&f.Source, "source", "", "only dead letters of this source: <topic>/<topic id>/<partition>")
	fs.StringVar(&f.Topic, "topic", "", "only dead letters of this topic")
	fs.StringVar(&f.Partition, "partition", "", "only dead letters of this partition of --topic")
	fs.Int64Var(&f.FromOffset, "from", 0, "first offset, of --topic and --partition, or of --source")
	fs.Int64Var(&f.ToOffset, "until", 0, "first offset that is not wanted any more; 0: no end")
	fs.StringVar(&f.since, "since", "", "only dead letters written since: a duration such as 2h, or RFC 3339")
	fs.IntVar(&f.limit, "limit", 0, "at most so many dead letters; 0: the usual number")
}

// check completes the filter.
func (f *letterFlags) check() error {
	if f.FromOffset < 0 || f.ToOffset < 0 || f.limit < 0 {
		return usageError{errors.New("--from, --until and --limit are not negative")}
	}
	if f.since == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, f.since)
	if d, derr := time.ParseDuration(f.since); derr == nil {
		at, err = time.Now().Add(-d), nil
	}
	if err != nil {
		return usageError{errors.New("--since takes a duration such as 2h, or a time such as 2026-01-02T15:04:05Z")}
	}
	f.Since = at.UTC().Format(time.RFC3339)
	return nil
}

// query returns the filter as the API takes it in a path: its members have the same names there as in a body.
func (f *letterFlags) query() (url.Values, error) {
	text, err := json.Marshal(f.LetterFilter)
	if err != nil {
		return nil, fmt.Errorf("write filter: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var members map[string]any
	if err := dec.Decode(&members); err != nil {
		return nil, fmt.Errorf("write filter: %w", err)
	}
	q := url.Values{}
	for name, v := range members {
		q.Set(name, fmt.Sprint(v))
	}
	return q, nil
}

const (
	// letterPage is the most that the API returns at once.
	letterPage = 1000
	// usualLetters is how many list shows unless told otherwise.
	usualLetters = 100
)

func lettersList(p *program) *cobra.Command {
	var f letterFlags
	var state, after string
	cmd := p.apiCommand(&cobra.Command{
		Use: "list", Short: "List dead letters, oldest offset first", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, a *apiClient, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		if !slices.Contains([]string{"", "open", "superseded", "redriven", "discarded"}, state) {
			return usageError{fmt.Errorf("--state %q is none of open, superseded, redriven and discarded", state)}
		}
		if _, err := admin.LetterQuery(f.LetterFilter, replica.State(state)); err != nil {
			return usageError{err}
		}
		if f.limit == 0 {
			f.limit = usualLetters
		}
		out, err := f.read(ctx, a, state, after)
		if err != nil {
			return err
		}
		if p.json {
			return p.printJSON(map[string]any{"items": out})
		}
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tDATASET\tKEY\tVERSION\tREASON\tERRNO\tSTATE\tTRIES\tWRITTEN")
		for _, l := range out {
			fmt.Fprintf(w, "%s\t%s\t%q\t%d\t%s\t%d\t%s\t%d\t%s\n", l.ID, l.Dataset, l.Key, l.Version, l.Reason, l.Errno, l.State, l.Attempts, l.Created.Format(time.RFC3339))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if len(out) == f.limit {
			fmt.Fprintf(p.out, "%d shown; there may be more: --limit, or --after with the last id\n", len(out))
		}
		return nil
	})
	f.bind(cmd)
	cmd.Flags().Lookup("limit").Usage = fmt.Sprintf("at most so many dead letters; 0: %d", usualLetters)
	cmd.Flags().StringVar(&state, "state", "", "only dead letters in this state: open, superseded, redriven or discarded")
	cmd.Flags().StringVar(&after, "after", "", "begin after the dead letter with this id")
	return cmd
}

// read reads letters page by page.
func (f *letterFlags) read(ctx context.Context, a *apiClient, state, after string) ([]api.Letter, error) {
	q, err := f.query()
	if err != nil {
		return nil, err
	}
	if state != "" {
		q.Set("state", state)
	}
	out := []api.Letter{}
	for {
		page := min(letterPage, f.limit-len(out))
		q.Set("limit", strconv.Itoa(page))
		if after != "" {
			q.Set("after", after)
		}
		var got struct{ Items []api.Letter }
		if _, err := a.call(ctx, http.MethodGet, "/v1/deadletters?"+q.Encode(), nil, &got); err != nil {
			return nil, err
		}
		out = append(out, got.Items...)
		if len(got.Items) < page || len(out) == f.limit {
			return out, nil
		}
		after = got.Items[len(got.Items)-1].ID
	}
}

func lettersGroups(p *program) *cobra.Command {
	return p.apiCommand(&cobra.Command{
		Use: "groups", Short: "Say what is wrong with the open dead letters, most frequent first", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, a *apiClient, _ []string) error {
		var out struct{ Items []api.LetterGroup }
		raw, err := a.call(ctx, http.MethodGet, "/v1/deadletters/groups", nil, &out)
		if err != nil {
			return err
		}
		if p.json {
			return p.printRaw(raw)
		}
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "LETTERS\tDATASET\tREASON\tERRNO\tFIRST\tLAST\tDETAIL")
		for _, g := range out.Items {
			fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\t%s\n", g.Count, g.Dataset, g.Reason, g.Errno, g.First.Format(time.RFC3339), g.Last.Format(time.RFC3339), g.Detail)
		}
		return w.Flush()
	})
}

func lettersShow(p *program) *cobra.Command {
	var data bool
	cmd := p.apiCommand(&cobra.Command{
		Use: "show ID | SOURCE OFFSET [INDEX]", Short: "Show one dead letter beside its record's row and shared entry; content only with --data", Args: args(cobra.RangeArgs(1, 3)),
	}, func(ctx context.Context, a *apiClient, args []string) error {
		id, err := letterIDOf(args)
		if err != nil {
			return err
		}
		var l api.ShownLetter
		raw, err := a.call(ctx, http.MethodGet, fmt.Sprintf("/v1/deadletters/%s?data=%t", url.PathEscape(id.String()), data), nil, &l)
		if err != nil {
			return err
		}
		if p.json {
			return p.printRaw(raw)
		}
		return printLetter(p.out, &l)
	})
	cmd.Flags().BoolVar(&data, "data", false, "show headers and content too; needs the role operator")
	return cmd
}

func printLetter(out io.Writer, l *api.ShownLetter) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range []struct {
		name  string
		value any
	}{
		{"id", l.ID},
		{"dataset", l.Dataset},
		{"key", strconv.Quote(l.Key)},
		{"version", l.Version},
		{"op", l.Op},
		{"event id", l.EventID},
		{"reason", l.Reason},
		{"errno", l.Errno},
		{"detail", l.Detail},
		{"state", l.State},
		{"attempts", l.Attempts},
		{"successor", l.Successor},
		{"size", l.Size},
		{"event time", l.Time.Format(time.RFC3339)},
		{"written", l.Created.Format(time.RFC3339)},
		{"changed", l.Updated.Format(time.RFC3339)},
	} {
		fmt.Fprintf(w, "%s\t%v\n", f.name, f.value)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
		fmt.Fprintf(w, "header %s\t%q\n", name, l.Headers[name])
	}
	switch {
	case l.Event != nil:
		fmt.Fprintf(w, "event\t%s\n", l.Event)
	case l.EventBase64 != nil:
		fmt.Fprintf(w, "event, base64\t%s\n", base64.StdEncoding.EncodeToString(l.EventBase64))
	}
	printRow(w, l.Row)
	printShared(w, l.Shared)
	return w.Flush()
}
