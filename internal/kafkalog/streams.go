package kafkalog

import (
	"slices"

	"github.com/freshet/freshet/schemas"
)

// Where several datasets may read one topic (cdc.table), each reads a stream of it: "TOPIC#DATASET" (schemas.KafkaTopic). A stream has the
// topic's id and partitions, and offsets, fetches and pauses of its own, so that one dataset never waits for another.
// Everything above this package takes the name of a stream for the name of a topic. Requests to brokers have the topic's own
// name; '#' is not valid in one.

// topicsOf returns the Kafka topics of names, each once, in order.
func topicsOf(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		if t := schemas.KafkaTopic(n); !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// OffsetGroup returns the group that has the committed offsets of a topic. Those of a stream are in "GROUP#DATASET", a group
// without members: a group has one offset for each partition.
func OffsetGroup(group, topic string) string {
	if t := schemas.KafkaTopic(topic); t != topic {
		return group + topic[len(t):]
	}
	return group
}

// named returns what was answered for Kafka topics under the names that were asked for.
func named[T any](names []string, byTopic map[string]T) map[string]T {
	out := make(map[string]T, len(names))
	for _, n := range names {
		if v, ok := byTopic[schemas.KafkaTopic(n)]; ok {
			out[n] = v
		}
	}
	return out
}
