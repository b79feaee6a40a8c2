package replica_test

import (
	"github.com/freshet/freshet/consumer"
	"github.com/freshet/freshet/consumer/replica"
)

// What the worker asks for is what the replica gives.
var (
	_ consumer.Replica  = (*replica.MySQL)(nil)
	_ consumer.LaneLog  = (*replica.LaneLog)(nil)
	_ consumer.TopicLog = (*replica.MySQL)(nil)
)
