package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
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
	dataset, state, key, reason, source string
	detail                              string
	errno                               uint16
	from, until                         int64
	since                               string
	limit                               int
	all                                 bool
}

func (f *letterFlags) bind(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.dataset, "dataset", "", "only letters of this dataset")
	fs.StringVar(&f.key, "key", "", "only letters of the record with this key")
	fs.StringVar(&f.reason, "reason", "", "only letters for this reason: malformed, schema, key, version, dataset, too_large, refused, …")
	fs.StringVar(&f.source, "source", "", "only letters of this source: <topic>/<topic id>/<partition>")
	fs.Uint16Var(&f.errno, "errno", 0, "only letters of refusals with this MySQL error number")
	fs.StringVar(&f.detail, "detail", "", "only letters that say exactly this")
	fs.Int64Var(&f.from, "from", 0, "first offset")
	fs.Int64Var(&f.until, "until", 0, "first offset that is not wanted any more; 0: no end")
	fs.StringVar(&f.since, "since", "", "only letters written since: a duration such as 2h, or RFC 3339")
	fs.IntVar(&f.limit, "limit", 0, "at most so many; 0: all, or 100 for a list")
}

// query makes the choice of the flags.
func (f *letterFlags) query() (replica.LetterQuery, error) {
	q := replica.LetterQuery{
		Dataset: f.dataset, State: replica.State(f.state), Key: f.key, Reason: schemas.Reason(f.reason), Source: f.source, Errno: f.errno, Detail: f.detail,
		From: f.from, Until: f.until, Limit: f.limit,
	}
	if f.from < 0 || f.until < 0 || f.limit < 0 {
		return q, usageError{errors.New("--from, --until and --limit are not negative")}
	}
	if f.since == "" {
		return q, nil
	}
	if d, err := time.ParseDuration(f.since); err == nil {
		q.Since = time.Now().Add(-d)
		return q, nil
	}
	at, err := time.Parse(time.RFC3339, f.since)
	if err != nil {
		return q, usageError{errors.New("--since takes a duration such as 2h, or a time such as 2026-01-02T15:04:05Z")}
	}
	q.Since = at
	return q, nil
}

// chosen is query for a command that changes letters: a forgotten filter must not mean all.
func (f *letterFlags) chosen() (replica.LetterQuery, error) {
	q, err := f.query()
	narrow := f.dataset != "" || f.key != "" || f.reason != "" || f.source != "" || f.detail != "" || f.errno != 0 || f.since != "" || f.from > 0 || f.until > 0
	if err == nil && !narrow && !f.all {
		err = usageError{errors.New("choose letters by --dataset, --reason, --key, --source, --from, --until or --since, or say --all")}
	}
	return q, err
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
	cmd := p.onReplica(&cobra.Command{
		Use: "list", Short: "List dead letters, oldest offset first", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, s *replicaSession, _ []string) error {
		q, err := f.query()
		if err != nil {
			return err
		}
		letters, err := s.Letters(ctx, q)
		if err != nil {
			return err
		}
		counts, err := s.CountLetters(ctx, f.dataset)
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
	cmd.Flags().StringVar(&f.state, "state", "", "only letters in this state: open, superseded, redriven or discarded")
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

func (p *program) lettersDiscard() *cobra.Command {
	var f letterFlags
	var dryRun bool
	cmd := p.onReplica(&cobra.Command{
		Use: "discard", Short: "Give up open dead letters; they are kept, and count no more", Args: args(cobra.NoArgs),
	}, func(ctx context.Context, s *replicaSession, _ []string) error {
		q, err := f.chosen()
		if err != nil {
			return err
		}
		do := s.Discard
		if dryRun {
			do = s.CountOpen
		}
		n, err := do(ctx, q)
		if err != nil {
			return err
		}
		if p.json {
			return p.printJSON(map[string]any{"dry_run": dryRun, "discarded": n})
		}
		if dryRun {
			fmt.Fprintf(p.out, "%d letters would be discarded\n", n)
			return nil
		}
		fmt.Fprintf(p.out, "%d letters are discarded\n", n)
		return nil
	})
	f.bind(cmd)
	_ = cmd.Flags().MarkHidden("limit") // it has no meaning here
	cmd.Flags().BoolVar(&f.all, "all", false, "all open letters")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "count them and do nothing")
	return cmd
}

// redriveLine is one sample of a redrive.
type redriveLine struct {
	Outcome replica.Outcome `json:"outcome"`
	Source  string          `json:"source"`
	Offset  int64           `json:"offset"`
	Index   int             `json:"index"`
	Dataset string          `json:"dataset"`
	Key     string          `json:"key"`
	Version int64           `json:"version"`
	Reason  string          `json:"reason,omitempty"`
	Errno   uint16          `json:"errno,omitempty"`
	Detail  string          `json:"detail,omitempty"`
}

func (p *program) lettersRedrive() *cobra.Command {
	var f letterFlags
	var dryRun bool
	var rate int
	cmd := p.onReplica(&cobra.Command{
		Use: "redrive", Short: "Apply the events of open dead letters again, under the versions that they came with",
		Long: "Applies each letter's event by the same guarded statements as a worker: one whose record is as new or newer changes nothing\n" +
			"and is superseded; one that is still bad stays open with the reason of now. Nothing is published to the dataset's topic.\n" +
			"Cache entries of rows that changed are invalidated through the topic freshet.invalidations.<namespace>.",
		Args: args(cobra.NoArgs),
	}, func(ctx context.Context, s *replicaSession, _ []string) error {
		q, err := f.chosen()
		if err != nil {
			return err
		}
		return p.runRedrive(ctx, s, q, dryRun, rate)
	}, "namespace", "kafka")
	f.bind(cmd)
	cmd.Flags().BoolVar(&f.all, "all", false, "all open letters")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say which would be applied, are stale or invalid, and do nothing")
	cmd.Flags().IntVar(&rate, "rate", 0, "at most so many letters a second; 0: no limit")
	return cmd
}

func (p *program) runRedrive(ctx context.Context, s *replicaSession, q replica.LetterQuery, dryRun bool, rate int) error {
	broken, err := s.Prepare(ctx, s.datasets.All())
	if err != nil {
		return err
	}
	for _, b := range broken {
		if q.Dataset == "" || q.Dataset == b.Dataset {
			return b
		}
	}
	rc := consumer.RedriveConfig{Letters: s.MySQL, Namespace: s.config.Namespace, DryRun: dryRun, Rate: rate}
	if !dryRun && anyCached(s.datasets) {
		var kafka *kafkalog.Client
		if kafka, err = openKafka(s.config, nil); err != nil {
			return err
		}
		defer kafka.Close()
		rc.Kafka = kafka
	}
	report, err := consumer.Redrive(ctx, rc, q)
	if perr := p.printRedrive(report, dryRun); err == nil {
		err = perr
	}
	return err
}

func (p *program) printRedrive(r consumer.RedriveReport, dryRun bool) error {
	lines := make([]redriveLine, 0, len(r.Samples))
	for _, d := range r.Samples {
		lines = append(lines, redriveLine{
			Outcome: d.Outcome, Source: d.Source, Offset: d.Offset, Index: d.Index, Dataset: d.Dataset, Key: d.Key, Version: d.Version,
			Reason: string(d.Reason), Errno: d.Errno, Detail: d.Detail,
		})
	}
	if p.json {
		return p.printJSON(map[string]any{"dry_run": dryRun, "counts": r.Counts, "samples": lines, "token": r.Token})
	}
	applied := "applied"
	if dryRun {
		applied = "would be applied"
	}
	fmt.Fprintf(p.out, "%d %s, %d stale, %d invalid, %d can never be redriven, %d not open any more\n", r.Counts[replica.OutcomeApplied], applied,
		r.Counts[replica.OutcomeStale], r.Counts[replica.OutcomeInvalid], r.Counts[replica.OutcomeUnfit], r.Counts[replica.OutcomeClosed])
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%q\tversion %d\t%s\t%s\n", l.Outcome, l.Source, l.Offset, l.Index, l.Dataset, l.Key, l.Version, l.Reason, l.Detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !r.Token.IsZero() {
		fmt.Fprintf(p.out, "token %s\n", r.Token)
	}
	return nil
}
