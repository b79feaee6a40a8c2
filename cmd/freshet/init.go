package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/internal/draft"
	"github.com/freshet/freshet/internal/lint"
	"github.com/freshet/freshet/internal/mysql"
)

const initHelp = `Draft datasets: a declaration and a JSON Schema for each table, with the types, lengths, labels and keys that the table has.

From a database, whose DSN (user:password@tcp(host:3306)/shop) is in a file:

  freshet init --dsn-file source.dsn --tables shop.products,shop.orders --from outbox

--tables takes DATABASE.TABLE, TABLE of the DSN's database, DATABASE.* for all tables, and DATABASE.TABLE=NAME to name the
dataset. --from is how changes come to Kafka: outbox, publish, debezium, canal or maxwell. Capture tools need --topic, in which
{database} and {table} stand for the table's: --topic 'shop.{database}.{table}'.

From a topic that a capture tool fills already, which is recognised with its tables, keys and, as far as records state them,
types; with --dsn-file the tables are then read from the database, which is exact:

  freshet init --topic shop.shop.products

The files are written into the folder of the settings, or --out. Nothing is ever overwritten: where a file exists and the draft
differs, the difference is printed. What cannot be expressed is reported with what to do. The exit code is 1 if a table has no
draft or a file differs.`

// initFlags are the flags of init.
type initFlags struct {
	dsnFile, from, out, topic string
	tables                    []string
}

func initCommand(p *program) *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use: "init", Short: "Draft datasets from the tables of a database, or from the topic of a capture tool",
		Long: initHelp, Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			if f.out == "" {
				f.out = l.Config.Datasets
			}
			if err := f.check(); err != nil {
				return usageError{err}
			}
			return runInit(cmd.Context(), p, l.Config, f, log)
		},
	}
	cmd.Flags().StringVar(&f.dsnFile, "dsn-file", "", "file with the DSN of the database that changes come from")
	cmd.Flags().StringSliceVar(&f.tables, "tables", nil, "tables, DATABASE.TABLE, TABLE, DATABASE.* or DATABASE.TABLE=NAME; several by commas")
	cmd.Flags().StringVar(&f.from, "from", "", "how changes come to Kafka: outbox, publish, debezium, canal or maxwell")
	cmd.Flags().StringVar(&f.topic, "topic", "", "with --tables: the topics' names, in which {database} and {table} are replaced, freshet.DATASET by default; without: the topic to read")
	cmd.Flags().StringVar(&f.out, "out", "", "folder to write into; empty: the folder of the settings")
	config.Bind(cmd.Flags(), "datasets", "kafka", "log")
	return cmd
}

// check refuses flags that do not say what to draft.
func (f *initFlags) check() error {
	known := []string{string(draft.Outbox), string(draft.Publish), string(draft.Debezium), string(draft.Canal), string(draft.Maxwell)}
	if len(f.tables) == 0 && f.topic != "" {
		if f.from != "" {
			return errors.New("--from is recognised from the topic's records; leave it out, or name --tables")
		}
		return nil
	}
	switch {
	case f.dsnFile == "":
		return errors.New("--dsn-file is missing: the database to read, see --help")
	case len(f.tables) == 0:
		return errors.New("--tables is missing: name the tables, or --topic to recognise them from its records")
	case f.from == "":
		return errors.New("--from is missing: write " + strings.Join(known, ", "))
	case !slices.Contains(known, f.from):
		return fmt.Errorf("--from %q: write %s", f.from, strings.Join(known, ", "))
	case draft.From(f.from).Captured() && f.topic == "":
		return fmt.Errorf("--topic is missing: the topics that %s writes, for example --topic 'shop.{database}.{table}'", f.from)
	}
	return nil
}

// chosen is a table to draft.
type chosen struct {
	table *draft.Table
	cfg   draft.Config
}

func runInit(ctx context.Context, p *program, c config.Config, f initFlags, log *slog.Logger) error {
	var list []chosen
	var err error
	notes := []string{}
	if len(f.tables) > 0 {
		list, err = chooseTables(ctx, f)
	} else {
		list, notes, err = chooseFromTopic(ctx, c, &f, log)
	}
	if err != nil {
		return err
	}
	report := initReport{Written: []string{}, Unchanged: []string{}, Differs: []initDiff{}, Notes: notes, Problems: []string{}}
	drafts := report.draft(f, list)
	if err := report.write(f.out, drafts); err != nil {
		return err
	}
	for _, l := range lint.Folder(os.DirFS(f.out)) {
		if l.Level == lint.Error && len(drafts) > 0 {
			report.Problems = append(report.Problems, "schema lint: "+strings.TrimSpace(l.Dataset+" "+l.Text))
		}
	}
	report.Next = nextSteps(f, drafts)
	if p.json {
		err = p.printJSON(report)
	} else {
		report.print(p.out)
	}
	if err == nil && len(report.Problems)+len(report.Differs) > 0 {
		return errReported
	}
	return err
}

// openSource opens the database whose DSN is in a file.
func openSource(file string) (*sql.DB, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError{fmt.Errorf("--dsn-file: %w", err)}
	}
	db, err := mysql.Config{DSN: strings.TrimSpace(string(text))}.OpenDB()
	if err != nil {
		return nil, usageError{fmt.Errorf("--dsn-file %s: %w", file, err)}
	}
	return db, nil
}

// chooseTables reads the descriptions of the tables.
func chooseTables(ctx context.Context, f initFlags) ([]chosen, error) {
	db, err := openSource(f.dsnFile)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	dialect, err := mysql.DetectDialect(ctx, db)
	if err != nil {
		return nil, err
	}
	var own string
	if _, err := mysql.One(ctx, db, "ask for the database", "SELECT DATABASE()", nil, &own); err != nil {
		return nil, err
	}
	var list []chosen
	for _, text := range f.tables {
		name, dataset, _ := strings.Cut(text, "=")
		database, table, ok := strings.Cut(name, ".")
		if !ok {
			database, table = own, name
		}
		names := []string{table}
		if table == "*" {
			if names, err = draft.Tables(ctx, db, database); err != nil {
				return nil, err
			}
			if len(names) == 0 || dataset != "" {
				return nil, usageError{fmt.Errorf("--tables %s: database %s has no tables that the account may read, or a name is given for all of them", text, database)}
			}
		}
		for _, name := range names {
			t, err := draft.Read(ctx, db, dialect, database, name)
			if err != nil {
				return nil, err
			}
			list = append(list, chosen{t, draft.Config{From: draft.From(f.from), Dataset: dataset, Topic: f.topic}})
		}
	}
	return list, nil
}
