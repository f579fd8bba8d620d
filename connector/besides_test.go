package main

import (
	"reflect"
	"testing"

	"millrace/connector/pipeline"
)

// TestSkipKeepsWhatIsUndecided: without it prepared transactions would be lost,
// and rows that are done would come again.
func TestSkipKeepsWhatIsUndecided(t *testing.T) {
	xa := []pipeline.PendingXA{{XID: "X'31',X'',1", GTID: "a:7", File: "binlog.000001", StartPos: 4}}
	from := pipeline.Position{GTID: "a:1-8", ServerUUID: "a", XA: xa, Partial: &pipeline.Partial{GTID: "a:9", Rows: 5}}
	if pos := besides(pipeline.Position{GTID: "a:1-8:10", ServerUUID: "a"}, from, "a:10"); pos.Partial == nil || !reflect.DeepEqual(pos.XA, xa) {
		t.Errorf("have %+v", pos)
	}
	pos := besides(pipeline.Position{GTID: "a:1-9", ServerUUID: "b"}, from, "a:9")
	if pos.Partial != nil || len(pos.XA) != 1 || pos.XA[0].File != "" || pos.XA[0].GTID != "a:7" {
		t.Errorf("have %+v", pos)
	}
	if xa[0].File == "" {
		t.Error("the checkpoint in hand was changed")
	}
}
