package kafkalog

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go/protocol"
)

// spokenVersion is one version of one API that Freshet sends.
type spokenVersion struct {
	api     protocol.ApiKey
	version int16
	use     string
}

// spokenVersions are what every broker must accept. A broker
// says that it takes Produce from 0 on while it does not, so that only its upper bound means anything.
func spokenVersions() []spokenVersion {
	return []spokenVersion{
		{protocol.ApiVersions, 0, "connect"},
		{protocol.Metadata, minMetadata, "topic ids"},
		{protocol.Produce, 8, "produce"},
		{protocol.InitProducerId, 4, "produce"},
		{protocol.Fetch, fetchVersion, "fetch"},
		{protocol.ListOffsets, 5, "fetch"},
		{protocol.FindCoordinator, 2, "group"},
		{protocol.JoinGroup, 4, "group"},
		{protocol.SyncGroup, 2, "group"},
		{protocol.Heartbeat, 0, "group"},
		{protocol.LeaveGroup, 0, "group"},
		{protocol.OffsetCommit, 5, "group"},
		{protocol.OffsetFetch, 5, "group"},
		{protocol.DescribeGroups, describeGroupsVersion, "group"},
		{protocol.CreateTopics, 4, "topics"},
		{protocol.DeleteTopics, 3, "topics"},
		{protocol.DescribeConfigs, 1, "topics"},
	}
}

// CheckVersions asks one broker what it speaks and says, one text each, what Freshet sends and it does not take. Nothing
// to say means an empty list.
func (c *Client) CheckVersions(ctx context.Context) ([]string, error) {
	k, err := c.bootstrap(ctx)
	if err != nil {
		return nil, fmt.Errorf("check versions: %w", err)
	}
	defer func() { _ = k.close() }()
	var out []string
	for _, v := range spokenVersions() {
		r, ok := k.versions[int16(v.api)]
		if !ok || v.version > r.max || v.version < r.min {
			out = append(out, fmt.Sprintf("%s version %d (%s) is not among %d to %d of broker %s",
				v.api, v.version, v.use, r.min, r.max, k.addr))
		}
	}
	return out, nil
}
