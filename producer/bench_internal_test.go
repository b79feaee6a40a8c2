package producer

import (
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/schemas"
)

// usersChecker knows one dataset, users.
func usersChecker(tb testing.TB) *Checker {
	tb.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"users.yaml": {Data: []byte("dataset: users\nkey: [id]\nschema: users.json\n")},
		"users.json": {Data: []byte(`{"type":"object","required":["id","email","name","updated_at"],"properties":{
  "id": {"type":"integer","minimum":1}, "email": {"type":"string","maxLength":254,"minLength":3},
  "name": {"type":"string","maxLength":200}, "country": {"type":["string","null"],"enum":["CH","DE","FR",null],"maxLength":2},
  "active": {"type":"boolean"}, "balance": {"type":"string","x-decimal":"12,2"}, "logins": {"type":"integer","minimum":0,"maximum":1000000},
  "updated_at": {"type":"string","format":"date-time"}, "born": {"type":"string","format":"date"}, "settings": {"type":"object"}}}`)},
	})
	if err != nil {
		tb.Fatal(err)
	}
	c, err := NewChecker(set, "")
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// BenchmarkOne is what checking and encoding an event costs: all that a Producer does beyond a Kafka client.
func BenchmarkOne(b *testing.B) {
	c := usersChecker(b)
	ev := schemas.Event{
		Dataset: "users", Key: "123456789", Op: schemas.Upsert, Version: 17,
		Data: []byte(`{"id":123456789,"email":"ada.lovelace@example.org","name":"Ada Lovelace","country":"CH","active":true,` +
			`"balance":"1234.50","logins":4711,"updated_at":"2026-01-02T03:04:05.678901Z","born":"1990-12-10",` +
			`"settings":{"theme":"dark","language":"de","flags":["beta","newsletter"],"page_size":50,"density":"compact"}}`),
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.one(ev); err != nil {
			b.Fatal(err)
		}
	}
}
