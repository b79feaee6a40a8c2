package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestControlCharactersAreNotPrinted: what others wrote cannot move the reader's cursor.
func TestControlCharactersAreNotPrinted(t *testing.T) {
	var out strings.Builder
	n, err := fmt.Fprintf(printable{&out}, "a\x1b[2Jb\x07\tc\n%s\u009bd", "Größe\r")
	want := "a\ufffd[2Jb\ufffd\tc\nGröße\ufffd\ufffdd"
	if err != nil || out.String() != want || n != len("a\x1b[2Jb\x07\tc\nGröße\r\u009bd") {
		t.Errorf("%q, %d, %v, want %q", out.String(), n, err, want)
	}
}
