package kafkalog

import (
	"encoding/binary"
	"testing"
)

func FuzzParseFetch(f *testing.F) {
	w := binary.BigEndian.AppendUint32(nil, 0)
	w = append(w, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 't', 0, 0, 0, 1)
	w = append(w, make([]byte, 4+2+24)...)
	w = binary.BigEndian.AppendUint32(w, 0xffffffff)
	w = append(w, make([]byte, 4)...)
	w = binary.BigEndian.AppendUint32(w, 3)
	w = append(w, "abc"...)
	if _, parts, err := parseFetch(w); err != nil || len(parts) != 1 || string(parts[0].run) != "abc" {
		f.Fatalf("seed: parts %v, err %v", parts, err)
	}
	f.Add(w)
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = parseFetch(b)
		_, _ = parseMetadata(b)
	})
}
