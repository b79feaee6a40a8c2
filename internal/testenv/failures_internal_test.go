package testenv

import (
	"bytes"
	"strings"
	"testing"
)

func TestFailuresAreSaidAgain(t *testing.T) {
	t.Parallel()
	const text = "ok  \tx/a\t0.1s\n--- FAIL: TestOne (0.01s)\n    one_test.go:12: got 1\n    log of a process\n" +
		"    bed_test.go:180: time=2026-01-01T00:00:00.000Z level=WARN msg=\"waiting for the infrastructure\"\n" +
		"        bed_test.go:180: {\"time\":\"2026-01-01T00:00:00Z\",\"level\":\"INFO\"}\n    one_test.go:9: testenv: stopped redis-server (pid 7)\n" +
		"    one_test.go:10: testenv: make database: refused\n" +
		"panic: test timed out after 20m0s\n\trunning tests:\n\t\tTestTwo (16m1s)\n\ngoroutine 1 [running]:\nFAIL\tx/b\t1.0s\n"
	var through, again bytes.Buffer
	f := &failures{to: &through}
	for _, piece := range strings.SplitAfter(text, "T") { // lines come in pieces
		if _, err := f.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	f.report(&again)
	if through.String() != text {
		t.Errorf("passed on:\n%s", &through)
	}
	const want = "testenv: what failed, again:\n--- FAIL: TestOne (0.01s)\n    one_test.go:12: got 1\n    one_test.go:10: testenv: make database: refused\npanic: test timed out after 20m0s\n\t\tTestTwo (16m1s)\nFAIL\tx/b\t1.0s\n"
	if again.String() != want {
		t.Errorf("said again:\n%s", &again)
	}
}
