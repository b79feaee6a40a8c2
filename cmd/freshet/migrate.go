package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/schemas"
)

func migrateCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make or upgrade Freshet's tables, and the tables and topics of datasets",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s up, status, down, datasets or namespace", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(
		migrateStep(p, "up", "Make or upgrade Freshet's own tables", func(ctx context.Context, m *migrations.Migrations) error {
			done, err := m.Up(ctx)
			if err != nil && len(done) == 0 {
				return inWords(err)
			}
			return errors.Join(inWords(err), printSteps(p, done, "applied", "nothing to do: the tables are up to date"))
		}),
		migrateStep(p, "status", "Say which migrations ran", func(ctx context.Context, m *migrations.Migrations) error {
			all, err := m.Status(ctx)
			if err != nil {
				return err
			}
			return printSteps(p, all, "", "there are no migrations")
		}),
		migrateDown(p),
		migrateDatasets(p),
		migrateNamespace(p),
	)
	return cmd
}

func migrateDown(p *program) *cobra.Command {
	var apply bool
	cmd := migrateStep(p, "down", "Take back the newest migration; what its table held is lost", func(ctx context.Context, m *migrations.Migrations) error {
		if !apply {
			all, err := m.Status(ctx)
			if err != nil {
				return err
			}
			all = slices.DeleteFunc(all, func(s migrations.Step) bool { return !s.Applied })
			return p.hintApply(!p.json, printSteps(p, all[max(0, len(all)-1):], "would be taken back", "nothing to take back"))
		}
		step, ok, err := m.Down(ctx)
		if err != nil {
			return err
		}
		var done []migrations.Step
		if ok {
			done = append(done, step)
		}
		return printSteps(p, done, "taken back", "nothing to take back")
	})
	bindApply(cmd, &apply)
	return cmd
}

func migrateStep(p *program, name, short string, do func(context.Context, *migrations.Migrations) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, log, err := p.load(cmd)
			if err != nil {
				return err
			}
			db, err := connect.Migrations(l.Config)
			if err != nil {
				return err
			}
			defer db.Close()
			m, err := migrations.New(db, migrations.Config{Logger: log})
			if err != nil {
				return err
			}
			return do(cmd.Context(), m)
		},
	}
	config.Bind(cmd.Flags(), "mysql", "log")
	return cmd
}

func printSteps(p *program, steps []migrations.Step, what, none string) error {
	if p.json {
		if steps == nil {
			steps = []migrations.Step{}
		}
		return p.printJSON(steps)
	}
	if len(steps) == 0 {
		fmt.Fprintln(p.out, none)
	}
	for _, s := range steps {
		state := what
		if state == "" {
			state = "pending"
			if s.Applied {
				state = "applied"
			}
		}
		fmt.Fprintf(p.out, "%-10s %s\n", state, s.Name)
	}
	return nil
}

// datasetFlags are the flags of migrate datasets.
type datasetFlags struct {
	dryRun, noTopics        bool
	cleanup                 string
	dropCache, dropProperty []string
	partitions, replication int
	adopt                   bool
	adoptVersion            []string
	versions                map[string]int64 // of adoptVersion
}

func migrateDatasets(p *program) *cobra.Command {
	var f datasetFlags
	cmd := &cobra.Command{
		Use:   "datasets",
		Short: "Make or extend the datasets' tables, note their cache hashes, and make missing topics",
		Long: "Only ever adds: tables, nullable columns, an index, length, topics. What would drop or narrow is reported as a problem\n" +
			"and left alone; the exit code is then 1. So is a cache section that is gone, unless --drop-cache names its dataset: nodes\n" +
			"that have it yet would not be told of changes any more.\n\n" +
			"A table that Freshet did not make is a problem, unless --adopt is given: then _version, _deleted and _at are added to it\n" +
			"while readers and writers continue, columns that a deletion has to empty become nullable, and its rows count as the version\n" +
			"that is printed. With --dry-run the command lists every difference and changes nothing.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, c, log, err := p.loadDatasets(cmd)
			if err != nil {
				return err
			}
			versions, err := f.readVersions(set)
			if err := errors.Join(f.check(set), err); err != nil {
				return usageError{err}
			}
			f.versions = versions
			return runMigrateDatasets(cmd.Context(), p, c, set, f, log)
		},
	}
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "print what would be done and do nothing")
	cmd.Flags().BoolVar(&f.noTopics, "no-topics", false, "leave Kafka alone")
	cmd.Flags().StringSliceVar(&f.dropCache, "drop-cache", nil, "let the cache section of this dataset go, which no node may have any more; several by commas")
	cmd.Flags().StringSliceVar(&f.dropProperty, "drop-property", nil, "clear the column of DATASET.PROPERTY from now on and ignore the property in events; several by commas")
	cmd.Flags().BoolVar(&f.adopt, "adopt", false, "take over tables that Freshet did not make, with their rows")
	cmd.Flags().StringSliceVar(&f.adoptVersion, "adopt-version", nil, "DATASET=N: the version that the rows of an adopted table count as, 1 by default; several by commas")
	cmd.Flags().StringVar(&f.cleanup, "cleanup", "compact", "cleanup policy of topics that are made: compact, delete, or broker for its default")
	cmd.Flags().IntVar(&f.partitions, "partitions", 8, "partitions of topics that are made")
	cmd.Flags().IntVar(&f.replication, "replication-factor", 0, "replication of topics that are made; 0: the broker's default")
	config.Bind(cmd.Flags(), "datasets", "namespace", "kafka", "mysql", "log")
	return cmd
}

// check refuses an unknown policy, and names of datasets whose cache section is not to go.
func (f datasetFlags) check(set *schemas.Datasets) error {
	if !slices.Contains([]string{"compact", "delete", "broker"}, f.cleanup) {
		return fmt.Errorf("--cleanup %s: give compact, delete or broker", f.cleanup)
	}
	for _, name := range f.dropCache {
		switch d, ok := set.Get(name); {
		case !ok:
			return fmt.Errorf("--drop-cache %s: no such dataset is declared", name)
		case d.Cache != nil:
			return fmt.Errorf("--drop-cache %s: the dataset still has a cache section; take it out of its file first", name)
		}
	}
	for _, name := range f.dropProperty {
		dataset, property, ok := strings.Cut(name, ".")
		d, known := set.Get(dataset)
		switch {
		case !ok || !known:
			return fmt.Errorf("--drop-property %s: write DATASET.PROPERTY of a declared dataset", name)
		case slices.ContainsFunc(d.Replica.Columns, func(c schemas.Column) bool { return c.Property.Name == property }):
			return fmt.Errorf("--drop-property %s: the schema still has the property; take it out first", name)
		}
	}
	return nil
}

// readVersions reads --adopt-version.
func (f datasetFlags) readVersions(set *schemas.Datasets) (map[string]int64, error) {
	versions := map[string]int64{}
	for _, text := range f.adoptVersion {
		name, number, _ := strings.Cut(text, "=")
		n, err := strconv.ParseInt(number, 10, 64)
		d, known := set.Get(name)
		switch {
		case !f.adopt:
			return nil, errors.New("--adopt-version belongs to --adopt")
		case err != nil || n < schemas.MinVersion || n > schemas.MaxVersion:
			return nil, fmt.Errorf("--adopt-version %s: write DATASET=N with a version from 1 to 2^53-2", text)
		case !known:
			return nil, fmt.Errorf("--adopt-version %s: no such dataset is declared", text)
		case d.Version.Kind == schemas.VersionColumn:
			return nil, fmt.Errorf("--adopt-version %s: the dataset's versions are in column %s", text, d.Version.Column)
		}
		versions[name] = n
	}
	return versions, nil
}

// dropProperties notes properties that the schemas do not have any more.
func (f datasetFlags) dropProperties(ctx context.Context, db *sql.DB) error {
	for _, name := range f.dropProperty {
		dataset, property, _ := strings.Cut(name, ".")
		switch found, err := tables.DropProperty(ctx, db, dataset, property); {
		case err != nil:
			return err
		case !found:
			return usageError{fmt.Errorf("--drop-property %s: the database knows no such property", name)}
		}
	}
	return nil
}

// datasetsReport is what migrate datasets prints with --json.
type datasetsReport struct {
	DryRun     bool     `json:"dry_run"`
	Statements []string `json:"statements"`
	Topics     []string `json:"topics"`
	Problems   []string `json:"problems"`
	// Blocked are statements that wait for the problems of their datasets to be solved.
	Blocked []string `json:"blocked"`
	// Notes are settings of existing topics that freshet doctor would warn of.
	Notes []string `json:"notes"`
}

// runMigrateDatasets prints what it is about to do before it does anything; a JSON report comes at the end.
func runMigrateDatasets(ctx context.Context, p *program, c config.Config, set *schemas.Datasets, f datasetFlags, log *slog.Logger) error {
	db, err := connect.DDL(c)
	if err != nil {
		return err
	}
	defer db.Close()
	if !f.dryRun { // before the plan, which registers the columns that are declared beside those that are noted
		if err := f.dropProperties(ctx, db); err != nil {
			return err
		}
	}
	ddl, err := tables.Planner{DropCache: f.dropCache, Adopt: f.adopt, Versions: f.versions}.Plan(ctx, db, set.All())
	if err != nil {
		return err
	}
	report := datasetsReport{DryRun: f.dryRun, Statements: []string{}, Topics: []string{}, Problems: []string{}, Blocked: []string{}, Notes: []string{}}
	for _, s := range ddl.Statements {
		report.Statements = append(report.Statements, s.String())
	}
	for _, e := range ddl.Problems {
		report.Problems = append(report.Problems, e.Error())
	}
	for _, s := range ddl.Blocked {
		report.Blocked = append(report.Blocked, s.String())
	}
	topics, err := planTopics(ctx, c, set, f, log)
	defer topics.close()
	if err != nil {
		return err
	}
	report.Notes = append(report.Notes, topics.notes...)
	for _, spec := range topics.missing {
		report.Topics = append(report.Topics, spec.Name)
	}
	if !p.json {
		printDatasets(p.out, report)
	}
	if !f.dryRun {
		if err := ddl.Execute(ctx, db); err != nil {
			return fmt.Errorf("%w; the statements before it are done, call it again to continue", err)
		}
		if err := topics.create(ctx); err != nil {
			return err
		}
	}
	if p.json {
		if err := p.printJSON(report); err != nil {
			return err
		}
	}
	if len(report.Problems) > 0 {
		return errReported
	}
	return nil
}

// inWords adds to an error of the server how to fix what its number stands for.
func inWords(err error) error {
	if n, ok := mysql.Errno(err); ok {
		return fmt.Errorf("%w; %s", err, mysql.ErrnoText(n))
	}
	return err
}

func printDatasets(w io.Writer, r datasetsReport) {
	for _, s := range r.Statements {
		fmt.Fprintln(w, s)
	}
	for _, t := range r.Topics {
		fmt.Fprintf(w, "topic %s\n", t)
	}
	for _, e := range r.Problems {
		fmt.Fprintf(w, "PROBLEM %s\n", e)
	}
	for _, s := range r.Blocked {
		fmt.Fprintf(w, "blocked by its problems: %s\n", s)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	if len(r.Statements)+len(r.Topics)+len(r.Problems) == 0 {
		fmt.Fprintln(w, "nothing to do: tables, cache hashes and topics are up to date")
	}
}
