// Package pulse judges how one Freshet is, from looks at its servers, and keeps what it saw for the last minutes:
//
//	look.go     what one look finds
//	rates.go    what happened between two looks
//	ring.go     the samples of the last 15 minutes
//	health.go   what is wrong, worst first
//	wait.go     what a partition waits for
//	sentence.go the sentences of both
//	sampler.go  looks every few seconds, and whenever it is asked
//
// It talks to no server itself.
package pulse
