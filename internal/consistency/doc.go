// Package consistency measures whether cached copies are as new as the replica. A Sampler looks, all the time and at a low
// rate, at records that have just changed and at records of all ages, asks the shared tier and every node for their
// versions, and counts, tells and keeps what is older than the replica. Verify does the same once, over many records.
//
// It is beside the path of a change and is independent of it: what the worker emitted is not believed, only what the
// replica had and what a reader would get. Only versions are compared, so that entries without one (of loaders that do not
// know it, and of derived keys) are not looked at.
package consistency
