package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/compat"
)

func schemaCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Compare, check and show schemas of datasets; no server is needed",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("say what: %s compat, lint, ddl or hash", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(schemaCompat(p), schemaLint(p), schemaDDL(p), schemaHash(p))
	return cmd
}

func schemaCompat(p *program) *cobra.Command {
	var cfg compat.Config
	cmd := &cobra.Command{
		Use:   "compat OLD NEW",
		Short: "Say whether a schema, or a folder of datasets, may follow another one",
		Long: "Answers safe, breaking or unknown, with the place and the reason of each difference. Safe: every event that is valid\n" +
			"under OLD is valid under NEW, and every column that OLD fills is still filled with the same kind of value.\n" +
			"OLD and NEW are JSON Schema files, or folders of datasets. The exit code is 0 for safe, 1 for breaking and unknown.",
		Args: args(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, a []string) error {
			report, err := compare(a[0], a[1], cfg)
			if err != nil {
				return err
			}
			if err := printCompat(p, report); err != nil {
				return err
			}
			if report.Answer != compat.Safe {
				return errReported
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&cfg.Strict, "strict", false, "earlier events may carry any property that OLD does not forbid, also ones that NEW declares for the first time")
	return cmd
}

func compare(older, newer string, cfg compat.Config) (compat.Report, error) {
	a, err := isFolder(older)
	if err != nil {
		return compat.Report{}, err
	}
	b, err := isFolder(newer)
	if err != nil {
		return compat.Report{}, err
	}
	if a != b {
		return compat.Report{}, usageError{errors.New("one is a folder and the other a file; give two folders of datasets, or two JSON Schemas")}
	}
	if !a {
		was, err := readSchema(older)
		if err != nil {
			return compat.Report{}, err
		}
		is, err := readSchema(newer)
		if err != nil {
			return compat.Report{}, err
		}
		return compat.Schemas(was, is, cfg), nil
	}
	was, err := connect.Datasets(config.Config{Datasets: older})
	if err != nil {
		return compat.Report{}, err
	}
	is, err := connect.Datasets(config.Config{Datasets: newer})
	if err != nil {
		return compat.Report{}, err
	}
	return compat.Datasets(was, is, cfg), nil
}

func isFolder(name string) (bool, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, usageError{fmt.Errorf("%s does not exist; give a JSON Schema file or a folder of datasets", name)}
	case err != nil:
		return false, fmt.Errorf("look at %s: %w", name, err)
	}
	if ext := filepath.Ext(name); !info.IsDir() && (ext == ".yaml" || ext == ".yml") {
		return false, usageError{fmt.Errorf("%s is a declaration; give the folder that it is stored in, or its JSON Schema", name)}
	}
	return info.IsDir(), nil
}

func readSchema(name string) (*schemas.Schema, error) {
	dir, file := filepath.Split(name)
	if dir == "" {
		dir = "."
	}
	s, err := schemas.LoadSchema(os.DirFS(dir), file)
	if err != nil {
		return nil, fmt.Errorf("schema in %s: %w", dir, err)
	}
	return s, nil
}

func printCompat(p *program, r compat.Report) error {
	if p.json {
		return p.printJSON(r)
	}
	w := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
	for _, f := range r.Findings {
		place := f.Path
		if place == "" {
			place = "/"
		}
		if f.Dataset != "" {
			place = f.Dataset + " " + place
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Answer, place, f.Reason)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.out, "answer: %s\n", r.Answer)
	return err
}

// ddlReport is what schema ddl prints with --json.
type ddlReport struct {
	Dataset    string   `json:"dataset"`
	Dialect    string   `json:"dialect"`
	Statements []string `json:"statements"`
}

func schemaDDL(p *program) *cobra.Command {
	dialect := ""
	view := false
	cmd := &cobra.Command{
		Use:   "ddl DATASET",
		Short: "Print the statements that make a dataset's table, its index, and a view of the rows that exist",
		Long: "`freshet migrate datasets` makes the table by itself; this is for those who make tables in another way, and for the view,\n" +
			"which Freshet does not need.",
		Args: args(cobra.ExactArgs(1)),
	}
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		set, _, _, err := p.loadDatasets(cmd)
		if err != nil {
			return err
		}
		ds, err := connect.Dataset(set, a[0])
		if err != nil {
			return err
		}
		d, err := dialectNamed(dialect)
		if err != nil {
			return err
		}
		r := ddlReport{Dataset: ds.Name, Dialect: d.String(), Statements: []string{tables.Create(ds, d)}}
		if view {
			r.Statements = append(r.Statements, tables.LiveView(ds))
		}
		if p.json {
			return p.printJSON(r)
		}
		_, err = fmt.Fprintln(p.out, strings.Join(r.Statements, ";\n\n")+";")
		return err
	}
	cmd.Flags().StringVar(&dialect, "dialect", mysql.ModernMySQL.String(), "server: mysql (8.0.19 and later), mysql-old or mariadb")
	cmd.Flags().BoolVar(&view, "view", true, "print the view too")
	config.Bind(cmd.Flags(), "datasets", "log")
	return cmd
}

func dialectNamed(name string) (mysql.Dialect, error) {
	for _, d := range []mysql.Dialect{mysql.MariaDB, mysql.ModernMySQL, mysql.OldMySQL} {
		if d.String() == name {
			return d, nil
		}
	}
	return 0, usageError{fmt.Errorf("--dialect %q is none of mysql, mysql-old and mariadb", name)}
}
