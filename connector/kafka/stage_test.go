package kafka

import (
	"testing"

	"millrace/connector/pipeline"
)

// TestStages holds the table to its two rules.
func TestStages(t *testing.T) {
	reaches := func(from stage) map[stage]bool {
		seen := map[stage]bool{}
		for todo := []stage{from}; len(todo) > 0; todo = todo[1:] {
			for _, next := range stageArrows[todo[0]] {
				if !seen[next] {
					seen[next] = true
					todo = append(todo, next)
				}
			}
		}
		return seen
	}
	for from := stageDown; from <= stageCommitting; from++ {
		if from.String() == "" {
			t.Errorf("stage %d has no name", from)
		}
		for _, next := range stageArrows[from] {
			if next == stageProducing && from != stageIdle {
				t.Errorf("PRODUCING is reached from %s", from)
			}
			if from == stageDown && next != stageFencing {
				t.Errorf("DOWN leads to %s", next)
			}
			if from == stageProducing && next != stageCommitting || from == stageCommitting && next != stageIdle {
				t.Errorf("%s leads to %s", from, next)
			}
		}
		if !reaches(from)[stageProducing] {
			t.Errorf("%s is a dead end", from)
		}
	}
	if seen := reaches(stageDown); len(seen) != int(stageCommitting) {
		t.Errorf("%d stages can be reached from DOWN", len(seen))
	}
}

// TestNoOtherWay: a step out of order stops the task before it does harm.
func TestNoOtherWay(t *testing.T) {
	for from := stageDown; from <= stageCommitting; from++ {
		s := New(Options{Connector: "c"})
		s.stage = from
		if from != stageIdle {
			wantRefusal(t, s.to(stageProducing), pipeline.ExitInternal, "protocol-order")
		}
		if err := s.to(stageDown); err != nil {
			t.Errorf("no way back from %s", from)
		}
	}
}
