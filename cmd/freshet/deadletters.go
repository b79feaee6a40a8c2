package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin"
	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/schemas"
)

func (p *program) deadlettersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deadletters",
		Short: "List, show, edit, redrive and discard dead letters",
		Long: "A dead letter is an event that could not be applied as it was. It keeps everything of the event and its reason until it\n" +
			"is redriven, discarded, or superseded by a newer event of its record.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s list, show, edit, redrive or discard", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(p.lettersList(), p.lettersShow(), p.lettersEdit(), p.lettersRedrive(), p.lettersDiscard())
	return cmd
}

// letterFlags choose letters.
type letterFlags struct {
	admin.LetterFilter
	since string
	limit int
}

func (f *letterFlags) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.Dataset, "dataset", "", "only letters of this dataset")
	fs.StringVar(&f.Key, "key", "", "only letters of the record with this key")
	fs.StringVar(&f.Reason, "reason", "", "only letters for this reason: malformed, schema, partial, key, version, dataset, too_large or refused")
	fs.Uint16Var(&f.Errno, "errno", 0, "only letters of refusals with this MySQL error number")
	fs.StringVar(&f.Detail, "detail", "", "only letters that say exactly this")
	fs.StringVar(&f.Source, "source", "", "only letters of this source: <topic>/<topic id>/<partition>")
	fs.StringVar(&f.Topic, "topic", "", "only letters of this topic")
	fs.StringVar(&f.Partition, "partition", "", "only letters of this partition of --topic")
	fs.Int64Var(&f.FromOffset, "from", 0, "first offset, of --topic and --partition, or of --source")
	fs.Int64Var(&f.ToOffset, "until", 0, "first offset that is not wanted any more; 0: no end")
	fs.StringVar(&f.since, "since", "", "only letters written since: a duration such as 2h, or RFC 3339")
	fs.IntVar(&f.limit, "limit", 0, "at most so many letters; 0: the usual number")
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

// letterLine is a letter as it is printed. Key and payload are the record's: only show --data prints the payload.
type letterLine struct {
	ID        string        `json:"id"`
	Source    string        `json:"source"`
	Offset    int64         `json:"offset"`
	Index     int           `json:"index"`
	Dataset   string        `json:"dataset"`
	Key       string        `json:"key"`
	Version   int64         `json:"version"`
	Op        string        `json:"op,omitempty"`
	EventID   string        `json:"event_id,omitempty"`
	Reason    string        `json:"reason"`
	Errno     uint16        `json:"errno,omitempty"`
	Detail    string        `json:"detail"`
	State     replica.State `json:"state"`
	Attempts  int           `json:"attempts"`
	Successor string        `json:"successor,omitempty"`
	Size      int64         `json:"size"`
	Time      time.Time     `json:"time"`
	Created   time.Time     `json:"created"`
	Updated   time.Time     `json:"updated"`
}

func lineOf(l *replica.StoredLetter) letterLine {
	line := letterLine{
		ID: l.ID().String(), Source: l.Source, Offset: l.Offset, Index: l.Index, Dataset: l.Dataset, Key: l.Key, Version: l.Version, EventID: l.EventID,
		Reason: string(l.Reason), Errno: l.Errno, Detail: l.Detail, State: l.State, Attempts: l.Attempts, Successor: l.Successor, Size: l.Size,
		Time: time.UnixMilli(l.Record.Time).UTC(), Created: l.Created, Updated: l.Updated,
	}
	if l.Op != 0 {
		line.Op = l.Op.String()
	}
	return line
}

func (p *program) lettersList() *cobra.Command {
	var f letterFlags
	var state string
	cmd := p.onReplica(&cobra.Command{
		Use: "list", Short: "List dead letters, oldest offset first", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, s *replicaSession, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		if !slices.Contains([]string{"", "open", "superseded", "redriven", "discarded"}, state) {
			return usageError{fmt.Errorf("--state %q is none of open, superseded, redriven and discarded", state)}
		}
		q, err := f.Query(replica.State(state))
		if err != nil {
			return usageError{err}
		}
		q.Limit = f.limit
		letters, err := s.Letters(ctx, q)
		if err != nil {
			return err
		}
		counts, err := s.CountLetters(ctx, f.Dataset)
		if err != nil {
			return err
		}
		lines := make([]letterLine, len(letters))
		for i := range letters {
			lines[i] = lineOf(&letters[i])
		}
		if p.json {
			return p.printJSON(map[string]any{"letters": lines, "counts": counts})
		}
		w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SOURCE\tOFFSET\tIDX\tDATASET\tKEY\tVERSION\tREASON\tERRNO\tSTATE\tTRIES\tWRITTEN")
		for _, l := range lines {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%q\t%d\t%s\t%d\t%s\t%d\t%s\n", l.Source, l.Offset, l.Index, l.Dataset, l.Key, l.Version,
				l.Reason, l.Errno, l.State, l.Attempts, l.Created.Format(time.RFC3339))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		fmt.Fprintf(p.out, "%d shown; in all %d open, %d superseded, %d redriven, %d discarded\n", len(lines),
			counts[replica.StateOpen], counts[replica.StateSuperseded], counts[replica.StateRedriven], counts[replica.StateDiscarded])
		return nil
	})
	f.bind(cmd)
	cmd.Flags().StringVar(&state, "state", "", "only letters in this state: open, superseded, redriven or discarded")
	return cmd
}

// letterWhole is a letter with its record. Bytes that are no UTF-8 are in base64.
type letterWhole struct {
	letterLine
	Headers []letterHeader `json:"headers,omitempty"`
	Data    *string        `json:"data,omitempty"`
	Base64  []byte         `json:"data_base64,omitempty"`
}

type letterHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (p *program) lettersShow() *cobra.Command {
	var data bool
	cmd := p.onReplica(&cobra.Command{
		Use: "show ID | SOURCE OFFSET [INDEX]", Short: "Show one dead letter; its headers and payload only with --data", Args: args(cobra.RangeArgs(1, 3)),
	}, func(ctx context.Context, s *replicaSession, a []string) error {
		id, err := letterIDOf(a)
		if err != nil {
			return err
		}
		l, err := findLetter(ctx, s.MySQL, id)
		if err != nil {
			return err
		}
		whole := letterWhole{letterLine: lineOf(l)}
		if data {
			whole.fill(l.Record)
		}
		if p.json {
			return p.printJSON(whole)
		}
		return p.printLetter(whole)
	})
	cmd.Flags().BoolVar(&data, "data", false, "show the record's headers and payload too")
	return cmd
}

func findLetter(ctx context.Context, db *replica.MySQL, id replica.LetterID) (*replica.StoredLetter, error) {
	letters, err := db.Letters(ctx, replica.LetterQuery{Source: id.Source, From: id.Offset, Until: id.Offset + 1, Limit: 10_000, Content: true})
	if err != nil {
		return nil, err
	}
	for i := range letters {
		if letters[i].ID() == id {
			return &letters[i], nil
		}
	}
	return nil, fmt.Errorf("there is no dead letter of %s at offset %d, index %d; freshet deadletters list shows them", id.Source, id.Offset, id.Index)
}

func (l *letterWhole) fill(rec *schemas.Record) {
	for _, h := range rec.Headers {
		l.Headers = append(l.Headers, letterHeader{h.Key, string(h.Value)})
	}
	if utf8.Valid(rec.Value) && rec.Value != nil {
		text := string(rec.Value)
		l.Data = &text
		return
	}
	l.Base64 = rec.Value
}

func (p *program) printLetter(l letterWhole) error {
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	for _, f := range []struct {
		name  string
		value any
	}{
		{"source", l.Source},
		{"offset", l.Offset},
		{"index", l.Index},
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
	for _, h := range l.Headers {
		fmt.Fprintf(w, "header %s\t%q\n", h.Name, h.Value)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	switch {
	case l.Data != nil:
		fmt.Fprintln(p.out, *l.Data)
	case l.Base64 != nil:
		fmt.Fprintln(p.out, base64.StdEncoding.EncodeToString(l.Base64))
	}
	return nil
}
