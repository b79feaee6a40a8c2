package cdc_test

import (
	"testing"

	"github.com/freshet/freshet/internal/cdctest"
	"github.com/freshet/freshet/schemas/cdc"
)

// BenchmarkDecode reads what each tool wrote and checks it, as the worker does.
func BenchmarkDecode(b *testing.B) {
	for _, c := range cdctest.Cases() {
		if c.Table != "customers" {
			continue
		}
		b.Run(c.Name, func(b *testing.B) {
			folder, err := c.Folder("testdata", "captured")
			if err != nil {
				b.Fatal(err)
			}
			d := load(b, folder)
			records, err := cdctest.Read("testdata", c.Files...)
			if err != nil {
				b.Fatal(err)
			}
			bytes := 0
			for _, r := range records {
				bytes += len(r.Record.Value)
			}
			dec := cdc.New(cdc.Config{Dataset: d})
			b.SetBytes(int64(bytes / len(records)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				res, err := dec.Decode(records[i%len(records)].Record)
				if err != nil {
					b.Fatal(err)
				}
				for n := range res.Rows {
					if res.Rows[n].Err == nil {
						_, _ = d.Check(&res.Rows[n].Event)
					}
				}
			}
		})
	}
}
