package schemas

import (
	"strconv"
	"strings"

	"github.com/freshet/freshet/internal/jsontext"
)

// maxTopicName is Kafka's limit for the name of a topic in bytes.
const maxTopicName = 249

// MaxSourceBytes is the greatest length of a source's name.
const MaxSourceBytes = 300

// KafkaTopic returns the topic that a name of Dataset.Topic belongs to: what is before "#", which separates the topic that
// several datasets may share from the dataset.
func KafkaTopic(name string) string {
	topic, _, _ := strings.Cut(name, "#")
	return topic
}

// SourceName is "<topic>/<topic id>/<partition>"; topic is Dataset.Topic.
func SourceName(topic, topicID string, partition int32) string {
	buf := make([]byte, 0, len(topic)+len(topicID)+12)
	buf = append(buf, topic...)
	buf = append(buf, '/')
	buf = append(buf, topicID...)
	buf = append(buf, '/')
	return string(strconv.AppendInt(buf, int64(partition), 10))
}

// ParseSource splits a source name. Errors wrap ErrInvalid.
func ParseSource(s string) (topic, topicID string, partition int32, err error) {
	refuse := func(problem string) (string, string, int32, error) {
		return "", "", 0, &FieldError{
			Field: "source", Problem: problem, Fix: "a source is <topic>/<topic id>/<partition>", Reason: ReasonMalformed,
		}
	}
	if len(s) > MaxSourceBytes {
		return refuse("is too long")
	}
	parts := strings.Split(s, "/")
	if len(parts) != 3 {
		return refuse("does not have three parts")
	}
	topic, dataset, shared := strings.Cut(parts[0], "#")
	if !isTopic(topic) || shared && !isDatasetName(dataset) {
		return refuse("has a topic that Kafka would not accept")
	}
	if !isBase64URL(parts[1]) {
		return refuse("has a topic id that is not base64url")
	}
	n, perr := strconv.ParseInt(parts[2], 10, 32)
	if perr != nil || n < 0 || strconv.FormatInt(n, 10) != parts[2] {
		return refuse("has a partition that is not a number")
	}
	return parts[0], parts[1], int32(n), nil
}

// isTopic follows Kafka's rule for topic names.
func isTopic(s string) bool {
	if s == "" || len(s) > maxTopicName || s == "." || s == ".." {
		return false
	}
	for _, c := range []byte(s) {
		if !isWord(c) && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func isBase64URL(s string) bool {
	for _, c := range []byte(s) {
		if !isWord(c) && c != '-' {
			return false
		}
	}
	return s != ""
}

func isWord(c byte) bool {
	return c == '_' || jsontext.IsDigit(c) || ('a' <= c|0x20 && c|0x20 <= 'z')
}
