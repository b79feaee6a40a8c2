// Package consumer runs a whole worker inside a program of your own, in place of the command freshet worker: a member of the consumer
// group that carries each change from Kafka into MySQL, Redis and every node, with replays, the removal of old rows, and the sampler
// that compares cached copies with the replica.
//
//	w, err := consumer.New(consumer.Config{
//		Datasets: datasets, Namespace: "shop", Kafka: consumer.Kafka{Brokers: brokers}, MySQL: consumer.MySQL{DSN: dsn}, Redis: rdb,
//	})
//	...
//	defer w.Close()
//	err = w.Run(ctx)
//
// Freshet's own tables, the replica tables and the topics must exist: freshet migrate makes them, and package migrations the first.
// A program with several replicas of itself may run a worker in each: they share the partitions, and those of one that dies are taken
// over. A worker needs memory for Config.FetchBudget and CPU time for every event of its partitions, so a service whose latency
// matters is better off with freshet worker beside it.
package consumer
