package transform

import (
	"slices"
	"testing"

	"millrace/connector/pipeline"
)

func TestReads(t *testing.T) {
	table := outbox(varchar("note"), varchar("TENANT"), column("happened", pipeline.TypeDateTime), varchar("traceparent"), varchar("rest"))
	read := func(s *settings) (names []string) {
		for i, read := range ReadOptions(s).Reads(table) {
			if read {
				names = append(names, table.Columns[i].Name)
			}
		}
		return names
	}
	base := []string{"id", "aggregatetype", "aggregateid", "type", "payload"}
	if names := read(routerSettings()); !slices.Equal(names, base) {
		t.Errorf("have %v", names)
	}
	names := read(envelopeSettings("o.table.fields.additional.placement=tenant:header:x", "o.table.field.event.timestamp=happened", "millrace.trace.traceparent.column=traceparent"))
	if !slices.Equal(names, append(base, "TENANT", "happened", "traceparent")) {
		t.Errorf("have %v", names)
	}
	// A column that is nothing but part of the primary key says whether an
	// update renames it.
	key := outbox(primary(varchar("part")))
	if reads := ReadOptions(routerSettings()).Reads(key); !reads[5] {
		t.Errorf("have %v", reads)
	}
	if reads := (Options{Type: TypeTableShape}).Reads(table); reads != nil {
		t.Errorf("a transform that does not say reads %v", reads)
	}
}
