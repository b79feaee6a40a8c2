package backfill_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

const testWait = 20 * time.Second

// numbers is a table expression with the numbers from 1 to n in the column seq.
func numbers(n int) string {
	const digits = "(SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)"
	return fmt.Sprintf("(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 1 AS seq FROM %[1]s a, %[1]s b, %[1]s c, %[1]s e HAVING seq <= %[2]d) AS numbers", digits, n)
}

// sameEvent compares two events as bed.queued returns them, whatever the order of the properties.
func sameEvent(t *testing.T, a, b string) bool {
	t.Helper()
	i, j := strings.Index(a, "{"), strings.Index(b, "{")
	if i < 0 || j < 0 || a[:i] != b[:j] {
		return a == b
	}
	return reflect.DeepEqual(decoded(t, a[i:]), decoded(t, b[j:]))
}

func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("event %s: %v", text, err)
	}
	return v
}
