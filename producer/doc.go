// Package producer publishes events: it checks each against its dataset, encodes it as a CloudEvents record, and appends
// it to the dataset's topic, once and in order.
//
// # Publishing
//
// A service makes one Producer and keeps it:
//
//	datasets, err := schemas.LoadDatasets(os.DirFS("datasets")) // the same files serve producer and worker
//	p, err := producer.New(producer.Config{Brokers: brokers, Datasets: datasets, Source: "//shop/db"})
//	defer p.Close()
//
// and says, after each committed change, what the record has become:
//
//	tok, err := p.Publish(ctx, schemas.Event{
//		Dataset: "users", Key: "42", Op: schemas.Upsert, Version: row.Version, Data: body,
//	})
//
// The event carries the record's full state, not what changed in it. Version must grow with each committed change of the
// record: a counter in the row, or a number that the database assigns. Everything after the producer relies on it: the
// greater version wins at every tier, so an event may come late, twice or again without harm.
//
// [Producer.Publish] returns when Kafka has the events on every replica in sync. Its token is what a reader waits for to
// read its own write (invalidation's Node.WaitFor).
//
// # Several events
//
// Publish takes any number of events. All are checked before any is sent, so one that is wrong stops them all. They are
// not a transaction: when Kafka refuses one, the others may be in. The error is a [*PublishError] and names each event
// that failed by its index; the token covers those that did not.
//
// # Streams
//
// [Producer.PublishAsync] checks and queues an event and returns; the outcome comes by a callback. The queue is bounded
// (Config.MaxBufferedBytes): when it is full, PublishAsync blocks until there is room or its ctx ends. [Producer.Flush]
// waits for what was queued. Events of one record keep their order.
//
// # Errors
//
// What is wrong with an event is a [schemas.FieldError], which wraps [schemas.ErrInvalid] and names the field: the same
// event returns the same answer again. What is wrong with Kafka:
//
//   - [ErrOutcomeUnknown]: it is not known whether the event is in the log. Publishing the same event, with the same
//     version, again is safe.
//   - [ErrDeliveryTimeout] alone: it is not in the log; Kafka did not take it within Config.DeliveryTimeout.
//   - [ErrNoTopic], [ErrRefused], [ErrTooLarge]: a person must act; the text reports how.
//   - the error of ctx, with the brokers' addresses: there was no answer in time.
//
// While Kafka is away the producer tries on its own and keeps the order; there is no need for a loop around it.
//
// # Writing the row and the event together
//
// Publish after the commit leaves a gap: a service that dies in between loses the event. Package outbox closes it: the event is
// a row that the service inserts in its own transaction.
//
// # Tests
//
// Package producertest has a Recorder with the same methods and the same checks, and no Kafka.
package producer
