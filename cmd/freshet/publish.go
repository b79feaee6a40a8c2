package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

const publishHelp = `Publish events of declared datasets.

One event, from arguments:
  freshet publish users 42 --version 7 --data '{"id":42,"email":"ada@example.com"}'
  freshet publish users 42 --version 8 --delete

Many, one JSON object a line, from a file or standard input:
  freshet publish --input events.ndjson
  cat events.ndjson | freshet publish
  {"dataset":"users","version":7,"data":{"id":42,"email":"ada@example.com"}}
  {"dataset":"users","key":"42","op":"delete","version":8}

Members of a line: dataset (or the argument), version, op (upsert, the default, or delete), data (the full state), key
(default: the key properties of data), id, source, time (RFC 3339). A line that is refused is named with its number and
the rest continues; the exit code is then 1.`

// publishFlags are the flags of one publish command.
type publishFlags struct {
	data    string
	version int64
	remove  bool
	input   string
	quiet   bool
}

func publishCommand(p *program) *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "publish [DATASET [KEY]]",
		Short: "Publish events from arguments, a file or standard input",
		Long:  publishHelp,
		Args:  args(cobra.MaximumNArgs(2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			pub, err := openPublisher(l.Config, log)
			if err != nil {
				return err
			}
			defer pub.Close()
			if len(a) == 2 {
				return publishOne(cmd.Context(), p, pub, a[0], a[1], f)
			}
			var dataset string
			if len(a) == 1 {
				dataset = a[0]
			}
			return publishLines(cmd.Context(), p, pub, dataset, f)
		},
	}
	cmd.Flags().StringVar(&f.data, "data", "", "the record's full state as a JSON object")
	cmd.Flags().Int64Var(&f.version, "version", 0, "version of the record: grows with each of its changes")
	cmd.Flags().BoolVar(&f.remove, "delete", false, "the record is gone")
	cmd.Flags().StringVarP(&f.input, "input", "i", "-", "file with one event a line; - is standard input")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "no progress bar")
	config.Bind(cmd.Flags(), "datasets", "kafka", "producer", "log")
	return cmd
}

func publishOne(ctx context.Context, p *program, pub *publisher, dataset, key string, f publishFlags) error {
	ev := schemas.Event{Dataset: dataset, Key: key, Op: schemas.Upsert, Version: f.version, Data: []byte(f.data)}
	switch {
	case f.remove:
		ev.Op = schemas.Delete
		if f.data == "" {
			ev.Data = nil
		}
	case f.data == "":
		return usageError{errors.New("an upsert needs the record's full state: --data '{…}'; a deletion says --delete")}
	}
	tok, err := pub.Publish(ctx, ev)
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"published": 1, "token": tok.String()})
	}
	fmt.Fprintf(p.out, "published %s %s, version %d\ntoken %s\n", dataset, key, f.version, tok)
	return nil
}

func publishLines(ctx context.Context, p *program, pub *publisher, dataset string, f publishFlags) error {
	in, size := p.in, int64(0)
	if f.input != "-" {
		file, err := os.Open(f.input)
		if err != nil {
			return usageError{fmt.Errorf("open input: %w", err)}
		}
		defer file.Close()
		if st, err := file.Stat(); err == nil {
			size = st.Size()
		}
		in = file
	} else if isTerminal(p.in) {
		return usageError{errors.New("nothing to publish: give DATASET KEY with --data, --input FILE, or pipe lines into standard input")}
	}
	run := newLineRun(pub, dataset, p.err)
	if !f.quiet && !p.json && isTerminal(p.err) {
		run.bar = newBar(p.err, size)
	}
	err := run.publish(ctx, in)
	sum := run.summary()
	if p.json {
		if jerr := p.printJSON(sum); jerr != nil && err == nil {
			err = jerr
		}
	} else {
		fmt.Fprintln(p.out, sum.line())
	}
	switch {
	case err != nil:
		return err
	case sum.Refused+sum.Failed > 0:
		return errReported
	}
	return nil
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// publisher is a producer with the datasets, which the key of a line is made with.
type publisher struct {
	*producer.Producer
	datasets *schemas.Datasets
}

// openPublisher opens a producer of all datasets.
func openPublisher(c config.Config, log *slog.Logger) (*publisher, error) {
	set, err := connect.Datasets(c)
	if err != nil {
		return nil, err
	}
	p, err := connect.Producer(c, set, log)
	if err != nil {
		return nil, err
	}
	return &publisher{Producer: p, datasets: set}, nil
}

func (p *publisher) names() string {
	var names []string
	for _, d := range p.datasets.All() {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}
