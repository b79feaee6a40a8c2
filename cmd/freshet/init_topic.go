package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/draft"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

const (
	// sampleRecords is how many records are read at each end of a partition, sampleWait how long all of it may take.
	sampleRecords = 200
	sampleWait    = time.Minute
)

// chooseFromTopic recognises the tables whose changes a topic carries. With a database their descriptions are read there.
func chooseFromTopic(ctx context.Context, c config.Config, f *initFlags, log *slog.Logger) ([]chosen, []string, error) {
	kafka, err := connect.Kafka(c, log)
	if err != nil {
		return nil, nil, err
	}
	defer kafka.Close()
	records, err := sampleTopic(ctx, kafka, f.topic)
	if err != nil {
		return nil, nil, err
	}
	capture, err := draft.Infer(f.topic, records)
	if err != nil {
		return nil, nil, err
	}
	f.from = string(capture.From)
	notes := capture.Notes
	described := capture.Tables
	if f.dsnFile != "" {
		notes = nil
		if described, err = readTables(ctx, f.dsnFile, capture.Tables); err != nil {
			return nil, nil, err
		}
	}
	list := make([]chosen, len(described))
	for i, t := range described {
		list[i] = chosen{t, draft.Config{From: capture.From, Topic: f.topic, RewrittenDeletes: capture.RewrittenDeletes}}
	}
	found := make([]string, len(described))
	for i, t := range described {
		found[i] = strings.TrimPrefix(t.Database+"."+t.Name, ".")
	}
	return list, append([]string{fmt.Sprintf("%d records of topic %s are from %s, of %s", len(records), f.topic, capture.From, strings.Join(found, ", "))}, notes...), nil
}

// readTables reads the descriptions of tables from the database.
func readTables(ctx context.Context, dsnFile string, seen []*draft.Table) ([]*draft.Table, error) {
	db, err := openSource(dsnFile)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	dialect, err := mysql.DetectDialect(ctx, db)
	if err != nil {
		return nil, err
	}
	list := make([]*draft.Table, len(seen))
	for i, t := range seen {
		if t.Database == "" {
			return nil, fmt.Errorf("no record of the topic states its database and table; draft it from the database: --dsn-file, --tables and --from")
		}
		if list[i], err = draft.Read(ctx, db, dialect, t.Database, t.Name); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// sampleTopic reads the oldest and the newest records of each partition.
func sampleTopic(ctx context.Context, kafka *kafkalog.Client, topic string) ([]schemas.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleWait)
	defer cancel()
	info, err := kafka.Topic(ctx, topic)
	if err != nil {
		return nil, err
	}
	bounds, err := kafka.Offsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	var all []schemas.Record
	for _, id := range slices.Sorted(maps.Keys(bounds)) {
		b := bounds[id]
		part := kafkalog.Partition{Topic: topic, TopicID: info.ID, ID: id}
		first := min(b.First+sampleRecords, b.LastStable)
		for _, r := range [][2]int64{{b.First, first}, {max(first, b.LastStable-sampleRecords), b.LastStable}} {
			records, err := sampleRange(ctx, kafka, part, r[0], r[1])
			if err != nil {
				return nil, fmt.Errorf("read topic %s: %w", topic, err)
			}
			all = append(all, records...)
		}
	}
	return all, nil
}

func sampleRange(ctx context.Context, kafka *kafkalog.Client, part kafkalog.Partition, from, until int64) (records []schemas.Record, err error) {
	if from >= until {
		return nil, nil
	}
	r := kafkalog.NewReader(kafka, part, from, kafkalog.ReaderConfig{Until: until})
	defer r.Close()
	for {
		b, err := r.Read(ctx)
		if errors.Is(err, io.EOF) {
			return records, nil
		}
		if err != nil {
			return nil, err
		}
		for i := range b.Records {
			records = append(records, copyRecord(&b.Records[i]))
		}
		b.Release()
	}
}

// copyRecord copies a record out of the buffers of its batch.
func copyRecord(rec *schemas.Record) schemas.Record {
	out := *rec
	out.Key, out.Value = slices.Clone(rec.Key), slices.Clone(rec.Value)
	out.Headers = make([]schemas.Header, len(rec.Headers))
	for i, h := range rec.Headers {
		out.Headers[i] = schemas.Header{Key: h.Key, Value: slices.Clone(h.Value)}
	}
	return out
}
