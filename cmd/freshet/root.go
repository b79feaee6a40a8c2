package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/schemas"
)

// command builds the tree of subcommands.
func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "freshet",
		Short: "Keeps every copy of a record fresh: MySQL replicas, Redis, and each node's own memory",
		Long: "Freshet carries each change of a record through Kafka to MySQL replicas, deletes what it made stale in Redis,\n" +
			"and tells every node that caches it in memory.\n\n" +
			"Try it without installing anything: make demo in a checkout, which runs freshet-dev",
		Args:          args(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentPreRun = func(*cobra.Command, []string) {
		p.out = printable{p.out}
	}
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.PersistentFlags().StringVarP(&p.configFile, "config", "c", "", "YAML file with settings")
	root.PersistentFlags().BoolVar(&p.json, "json", false, "print the result as JSON")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	root.AddCommand(workerCommand(p), publishCommand(p), migrateCommand(p), datasetsCommand(p), deadlettersCommand(p), configCommand(p), versionCommand(p), benchCommand(p))
	root.AddCommand(schemaCommand(p), partitionsCommand(p), relayCommand(p), outboxCommand(p), backfillCommand(p), initCommand(p), grantsCommand(p), manCommand(p))
	root.AddCommand(devCommand())
	root.AddCommand(adminCommand(p), serveCommand(p), lagCommand(p), nodesCommand(p), inspectCommand(p), replayCommand(p), doctorCommand(p), verifyCommand(p), healthcheckCommand(p))
	group(root)
	p.complete(root)
	return root
}

// args turns cobra's complaint about arguments into a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}

// load reads the settings for a command, whose flags were bound by config.Bind.
func (p *program) load(cmd *cobra.Command) (*config.Loaded, *slog.Logger, error) {
	l, err := config.Load(config.Source{File: p.configFile, Environ: p.environ, Flags: cmd.Flags()})
	if err != nil {
		return nil, nil, usageError{err}
	}
	log := telemetry.NewLogger(p.err, l.Config.Log.Level, l.Config.Log.Format)
	p.redis.use(log)
	l.Config.Files().Log(log)
	return l, log, nil
}

// service is load for a command that runs until it is interrupted: with log.format json, each of its lines is JSON, also an error that
// it ends with.
func (p *program) service(cmd *cobra.Command) (*config.Loaded, *slog.Logger, error) {
	l, log, err := p.load(cmd)
	if err == nil {
		log = log.With("namespace", l.Config.Namespace)
		p.redis.use(log)
		l.Config.Files().Log(log)
	}
	switch {
	case err != nil && p.wantsJSON(cmd):
		p.jsonLog = telemetry.NewLogger(p.err, "info", "json")
	case err == nil && l.Config.Log.Format == "json":
		p.jsonLog = log
	}
	return l, log, err
}

// wantsJSON reports whether a flag or the environment asks for a log in JSON, where the settings cannot be read.
func (p *program) wantsJSON(cmd *cobra.Command) bool {
	if f := cmd.Flags().Lookup("log-format"); f != nil && f.Changed {
		return f.Value.String() == "json"
	}
	return slices.Contains(p.environ, "FRESHET_LOG__FORMAT=json")
}

// loadDatasets is load, with the datasets that the configuration lists.
func (p *program) loadDatasets(cmd *cobra.Command) (*schemas.Datasets, config.Config, *slog.Logger, error) {
	l, log, err := p.load(cmd)
	if err != nil {
		return nil, config.Config{}, nil, err
	}
	set, err := connect.Datasets(l.Config)
	return set, l.Config, log, err
}

// printJSON prints v as one line of JSON.
func (p *program) printJSON(v any) error {
	return json.NewEncoder(p.out).Encode(v)
}
