package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"github.com/freshet/freshet/cmd/freshet/internal/config"
	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/schemas"
)

// topicPlan is what migrate datasets has to do in Kafka.
type topicPlan struct {
	client  *kafkalog.Client // nil with --no-topics
	missing []kafkalog.TopicSpec
	notes   []string // settings of existing topics that doctor would warn of
}

// close ends the client.
func (t *topicPlan) close() {
	if t.client != nil {
		_ = t.client.Close() // everything has been said by then
	}
}

// create makes the missing topics.
func (t *topicPlan) create(ctx context.Context) error {
	if len(t.missing) == 0 {
		return nil
	}
	if err := t.client.CreateTopics(ctx, t.missing); err != nil {
		return fmt.Errorf("make topics: %w", err)
	}
	return nil
}

// planTopics looks at each wanted topic. The caller closes the plan, also after an error.
func planTopics(ctx context.Context, c config.Config, set *schemas.Datasets, f datasetFlags, log *slog.Logger) (*topicPlan, error) {
	plan := &topicPlan{}
	if f.noTopics {
		return plan, nil
	}
	var err error
	if plan.client, err = connect.Kafka(c, log); err != nil {
		return plan, err
	}
	for _, spec := range wantedTopics(c, set, f) {
		warnings, err := plan.client.CheckTopic(ctx, spec.Name, c.Worker.Window)
		switch {
		case errors.Is(err, kafkalog.ErrNoTopic):
			plan.missing = append(plan.missing, spec)
		case err != nil:
			return plan, fmt.Errorf("look at topic %s: %w", spec.Name, err)
		}
		for _, w := range warnings {
			if spec.Config["cleanup.policy"] == "delete" && w.Setting == "retention.ms" {
				continue // it is to be trimmed
			}
			plan.notes = append(plan.notes, fmt.Sprintf("topic %s: %s=%s: %s; %s", spec.Name, w.Setting, w.Value, w.Problem, w.Fix))
		}
	}
	return plan, nil
}

// wantedTopics are the datasets' topics, those of their dead letters if they are asked for, and the one of other writers'
// invalidations. The latter is kept for twice as long as lanes may need it for repairs.
func wantedTopics(c config.Config, set *schemas.Datasets, f datasetFlags) []kafkalog.TopicSpec {
	var specs []kafkalog.TopicSpec
	add := func(name string, partitions int, settings map[string]string) {
		if slices.ContainsFunc(specs, func(s kafkalog.TopicSpec) bool { return s.Name == name }) {
			return // datasets that share a topic share that of their dead letters
		}
		specs = append(specs, kafkalog.TopicSpec{Name: name, Partitions: partitions, ReplicationFactor: f.replication, Config: settings})
	}
	for _, d := range set.All() {
		if d.Format == schemas.FormatCloudEvents { // of the others the capture tool makes its topics, and with them their partitions
			add(d.Topic, f.partitions, f.settings(c, d))
		}
		if c.Worker.DeadTopics {
			add(worker.DeadTopic(d.Topic), f.partitions, map[string]string{"cleanup.policy": "delete"})
		}
	}
	if set.Cached() {
		keep := 2 * cmp.Or(c.Worker.KeepDisplaced, worker.DefaultKeepDisplaced)
		add(schemas.InvalidationTopic(c.Namespace), 1, map[string]string{
			"cleanup.policy": "delete", "retention.ms": strconv.FormatInt(keep.Milliseconds(), 10),
		})
	}
	return specs
}

// settings are those of a dataset's topic that is made: compacted, so that it holds every record for as long as it lives,
// unless --cleanup says otherwise. With versions from a column the last record of a key need not be its newest state, and
// nothing restores it, so such a topic gets the broker's policy.
func (f datasetFlags) settings(c config.Config, d *schemas.Dataset) map[string]string {
	if f.cleanup == "broker" || d.Version.Kind == schemas.VersionColumn {
		return nil
	}
	if f.cleanup == "delete" {
		return map[string]string{"cleanup.policy": "delete"}
	}
	return map[string]string{
		"cleanup.policy":        "compact",
		"min.compaction.lag.ms": strconv.FormatInt(c.Worker.Window.Milliseconds(), 10),
		"delete.retention.ms":   strconv.FormatInt(kafkalog.DeletesRetention.Milliseconds(), 10),
	}
}
