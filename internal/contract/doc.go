// Package contract holds the tests that read the OpenAPI document as others do: linters, a fuzzer that asks for what the document allows
// and for what it forbids, and generated clients in Go and TypeScript. It has no code of its own. Their tools come from their registries at
// the time of the test; where one cannot be had, its test is skipped.
package contract
