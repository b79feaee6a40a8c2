package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/boot"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

// doctor looks at every hop.
type doctor struct {
	cfg   config.Config
	log   *slog.Logger
	set   *schemas.Datasets
	kafka *kafkalog.Client
	db    *replica.DB
	rdb   redis.UniversalClient
	// canary is how long the canary may take; 0: none is sent.
	canary time.Duration
	// hop bounds each step; 0: hopTimeout.
	hop      time.Duration
	findings []api.Finding
}

func (d *doctor) bad(name, where, fix, problem string, args ...any) {
	d.findings = append(d.findings, api.Finding{Name: name, Bad: true, Where: where, Problem: fmt.Sprintf(problem, args...), Fix: fix})
}

func (d *doctor) note(name, where, fix, problem string, args ...any) {
	d.findings = append(d.findings, api.Finding{Name: name, Where: where, Problem: fmt.Sprintf(problem, args...), Fix: fix})
}

const (
	doctorTimeout = 60 * time.Second
	// openTransactionAfter leaves transactions alone that are still being written.
	openTransactionAfter = 5 * time.Second
	hopTimeout           = 10 * time.Second
	diagnoseHop          = 5 * time.Second
	maxSkew              = 2 * time.Second
)

func doctorCommand(p *program) *cobra.Command {
	var noCanary bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at every hop: settings, tables, topics, lanes, workers, nodes, and a canary through them all",
		Long: "Look at Kafka, topics, MySQL, tables, Redis, lanes, clocks, workers and nodes, at the outbox if relay.dsn is set, at the registry if registry.kind is, and send a canary invalidation from Kafka through\n" +
			"a worker and the lane to every node. Each finding has a name and a fix. The exit code is 1 when something is bad.",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			set, c, log, err := p.loadDatasets(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), doctorTimeout)
			defer cancel()
			d := &doctor{cfg: c, log: log, set: set, canary: 15 * time.Second}
			if noCanary {
				d.canary = 0
			}
			return printFindings(p, d.examine(ctx))
		},
	}
	cmd.Flags().BoolVar(&noCanary, "no-canary", false, "look only, send nothing")
	config.Bind(cmd.Flags(), "datasets", "namespace", "lanes", "loads", "kafka", "mysql", "redis", "producer", "worker", "relay", "admin.listen", "admin.advertise", "registry", "log")
	return cmd
}

func printFindings(p *program, findings []api.Finding) error {
	bad := slices.ContainsFunc(findings, func(f api.Finding) bool { return f.Bad })
	if p.json {
		if findings == nil {
			findings = []api.Finding{}
		}
		if err := p.printJSON(map[string]any{"healthy": !bad, "findings": findings}); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			mark := "note"
			if f.Bad {
				mark = "BAD "
			}
			fmt.Fprintf(p.out, "%s %s: %s\n     fix: %s\n", mark, strings.TrimSpace(f.Name+" "+f.Where), f.Problem, f.Fix)
		}
		if !bad {
			fmt.Fprintln(p.out, "everything that was looked at works")
		}
	}
	if bad {
		return errReported
	}
	return nil
}

// diagnose is what the admin API runs: it is done before a request must be answered.
func diagnose(c config.Config, log *slog.Logger) func(context.Context, bool) ([]api.Finding, error) {
	return func(ctx context.Context, canary bool) ([]api.Finding, error) {
		set, err := connect.Datasets(c)
		if err != nil {
			return nil, err
		}
		d := &doctor{cfg: c, log: log, set: set, hop: diagnoseHop}
		if canary {
			d.canary = diagnoseHop
		}
		return d.examine(ctx), nil
	}
}

// examine returns what it finds, bad things first.
func (d *doctor) examine(ctx context.Context) []api.Finding {
	d.follow(ctx)
	slices.SortStableFunc(d.findings, func(a, b api.Finding) int {
		if a.Bad != b.Bad {
			if a.Bad {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return d.findings
}

// follow follows the path of a change. A server that does not answer ends what depends on it and nothing else.
func (d *doctor) follow(ctx context.Context) {
	for _, text := range d.set.Warnings() {
		d.note("dataset-outdated", d.cfg.Datasets, "change the file as the text says", "%s", text)
	}
	hop := func(fn func(context.Context)) {
		ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.hop, hopTimeout))
		defer cancel()
		fn(ctx)
	}
	hop(d.examineKafka)
	hop(d.examineMySQL)
	hop(d.examineRedis)
	hop(d.examineOutbox)
	hop(d.examineRegistry)
	if d.kafka != nil {
		defer d.kafka.Close()
	}
	if d.db != nil {
		defer d.db.Close()
	}
	if d.rdb != nil {
		defer d.rdb.Close()
	}
	if d.db != nil {
		hop(d.examineWorkers)
	}
	if d.rdb != nil {
		hop(d.examineLanes)
		hop(d.examineNodes)
	}
	if d.db != nil {
		hop(d.examineClocks)
	}
	if d.canary > 0 && d.kafka != nil && d.rdb != nil && !slices.ContainsFunc(d.findings, func(f api.Finding) bool { return f.Bad }) {
		d.sendCanary(ctx)
	}
}

func (d *doctor) examineKafka(ctx context.Context) {
	k, err := connect.Kafka(d.cfg, d.log)
	if err != nil {
		d.bad("kafka-settings", "", "correct the kafka settings", "%v", err)
		return
	}
	missing, err := k.CheckVersions(ctx)
	if err != nil {
		_ = k.Close() // nothing was done with it
		d.bad("kafka-unreachable", "", "start the brokers, or correct kafka.brokers, kafka.tls and kafka.sasl", "%v", err)
		return
	}
	d.kafka = k
	for _, m := range missing {
		d.bad("kafka-version", "", "use Apache Kafka 2.8 or newer", "%s", m)
	}
	for _, ds := range d.set.All() {
		d.examineTopic(ctx, ds.Topic, ds.Format)
	}
	if d.set.Cached() {
		d.examineTopic(ctx, schemas.InvalidationTopic(d.cfg.Namespace), schemas.FormatCloudEvents)
	}
}

func (d *doctor) examineTopic(ctx context.Context, topic string, f schemas.Format) {
	warnings, err := d.kafka.CheckTopic(ctx, topic, d.cfg.Worker.Window)
	switch {
	case errors.Is(err, kafkalog.ErrNoTopic):
		d.bad("topic-missing", topic, kafkalog.MissingTopicFix(f), "the topic does not exist")
	case err != nil:
		d.bad("topic-unreadable", topic, "grant DESCRIBE, DESCRIBE_CONFIGS and READ on it", "%v", err)
	default:
		d.examineTransactions(ctx, topic)
	}
	for _, w := range warnings {
		if topic == schemas.InvalidationTopic(d.cfg.Namespace) && w.Setting == "retention.ms" {
			continue // it is to be trimmed
		}
		d.note("topic-settings", topic, w.Fix, "%s=%s: %s", w.Setting, w.Value, w.Problem)
	}
}

// examineTransactions reports open transactions that no one has written to for a while: every reader waits at their first record.
func (d *doctor) examineTransactions(ctx context.Context, topic string) {
	open, err := d.kafka.OpenTransactions(ctx, topic)
	if err != nil {
		d.note("transaction-unknown", topic, "grant READ on it", "open transactions cannot be looked for: %v", err)
	}
	for id, t := range open {
		if time.Since(t.LastWrite) < openTransactionAfter {
			continue
		}
		d.note("transaction-open", fmt.Sprintf("%s/%d", topic, id), fmt.Sprintf("let the producer end it, or run kafka-transactions.sh abort --topic %s --partition %d --start-offset %d", schemas.KafkaTopic(topic), id, t.First),
			"producer %d has a transaction open at offset %d, last written %s; records behind it are not read", t.ProducerID, t.First, t.LastWrite.UTC().Format(time.RFC3339))
	}
}

func (d *doctor) examineMySQL(ctx context.Context) {
	db, err := connect.Replica(ctx, d.cfg, d.log)
	if err != nil {
		d.bad("mysql-unreachable", "", "start the server, or correct mysql.dsn and the user's grants", "%v", err)
		return
	}
	d.db = db
	d.examineMigrations(ctx)
	broken, err := db.Prepare(ctx, d.set.All())
	if err != nil {
		d.bad("mysql-grants", "", "grant SELECT, INSERT, UPDATE and DELETE on the database", "tables cannot be looked at: %v", err)
		return
	}
	for _, b := range broken {
		d.bad("table-differs", b.Dataset, b.Fix, "%s", b.Problem)
	}
	hashes, err := db.Declarations.Hashes(ctx)
	if err != nil {
		return // migrations say why
	}
	for _, ds := range d.set.All() {
		switch have, want := hashes[ds.Name], ds.CacheHash(); {
		case have == want:
		case have == "":
			d.bad("cache-unregistered", ds.Name, "run freshet migrate datasets", "its cache section is not registered in the database")
		case want == "":
			d.bad("cache-differs", ds.Name, "put the section back, or take it from the nodes and then run freshet migrate datasets --drop-cache "+ds.Name, "its cache section is gone, but the database still knows one")
		default:
			d.bad("cache-differs", ds.Name, "run freshet migrate datasets with these declarations, or use the registered ones", "its cache section is not the one that the database knows")
		}
	}
	d.examineSchemas(ctx)
	pauses, err := db.Pauses.All(ctx)
	if err != nil {
		return
	}
	for name, p := range pauses {
		d.bad("dataset-paused", name, "correct the cause, then freshet datasets resume "+name, "paused by %s since %s: %s", p.Who, p.Since.Format(time.RFC3339), p.Why)
	}
	d.examineWriting(ctx)
}

// examineWriting tries a row that is rolled back.
func (d *doctor) examineWriting(ctx context.Context) {
	tx, err := d.db.SQL().BeginTx(ctx, nil)
	if err == nil {
		defer func() { _ = tx.Rollback() }() // that is what it is for
		_, err = tx.ExecContext(ctx, "INSERT INTO freshet_meta (name, value) VALUES ('doctor', '') ON DUPLICATE KEY UPDATE value = ''")
	}
	if err != nil {
		if n, ok := mysql.Errno(err); ok && n != 1146 {
			d.bad("mysql-grants", "", "grant SELECT, INSERT, UPDATE and DELETE on the database, and write to the primary", "Freshet's tables cannot be written (%s)", mysql.ErrnoText(n))
		}
	}
}

func (d *doctor) examineRedis(ctx context.Context) {
	if !d.set.Cached() {
		return
	}
	rdb, err := connect.Redis(d.cfg)
	if err != nil {
		d.bad("redis-settings", "", "correct redis.url", "%v", err)
		return
	}
	if err := rdb.Ping(ctx).Err(); err != nil {
		_ = rdb.Close() // nothing was done with it
		d.bad("redis-unreachable", "", "start Redis, or correct redis.url", "it does not answer: %v", err)
		return
	}
	d.rdb = rdb
	e, err := connect.Emitter(d.cfg, slog.New(slog.DiscardHandler)) // what it logs is found below
	if err == nil {
		err = errors.Join(boot.Redis(ctx, e), e.Close())
	}
	switch {
	case errors.Is(err, invalidation.ErrUnfit):
		d.bad("redis-unfit", "", "follow the text: the setting, or another Redis", "%v", err)
	case err != nil:
		d.bad("redis-check", "", "let the user run INFO, and connect to the master", "%v", err)
	}
	if text, err := rdb.Info(ctx, "persistence").Result(); err == nil && strings.Contains(text, "aof_enabled:0") {
		d.note("redis-persistence", "", "set appendonly yes and appendfsync everysec", "it keeps no append-only file: nothing is lost by that, but after each restart the lanes are emitted again")
	}
}

// examineClocks compares clocks: leases, holds and ages are measured by the servers' clocks, lags by this one.
func (d *doctor) examineClocks(ctx context.Context) {
	before := time.Now()
	var millis int64
	if err := d.db.SQL().QueryRowContext(ctx, "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)").Scan(&millis); err == nil {
		d.compareClock("MySQL", before, time.UnixMilli(millis))
	}
	if d.rdb == nil {
		return
	}
	before = time.Now()
	if at, err := d.rdb.Time(ctx).Result(); err == nil {
		d.compareClock("Redis", before, at)
	}
}

func (d *doctor) compareClock(where string, before, theirs time.Time) {
	early, late := before.Sub(theirs), time.Until(theirs)
	if skew := max(early, late); skew > maxSkew {
		d.note("clock-skew", where, "run NTP on every machine", "its clock and this one differ by %s", skew.Round(time.Millisecond))
	}
}
