package binlog

import (
	"fmt"
	"strings"
)

// savepoint sets a savepoint; one of the same name is forgotten.
func (a *assembler) savepoint(name string) {
	g := &a.group
	if g.proof != nil || g.skip {
		return
	}
	for i, s := range g.savepoints {
		if strings.EqualFold(s.name, name) {
			g.savepoints = append(g.savepoints[:i], g.savepoints[i+1:]...)
			break
		}
	}
	g.savepoints = append(g.savepoints, savepoint{name, a.buf.mark()})
}

// rollbackTo drops the rows since a savepoint, and the savepoints set after
// it. Of a proven group they were left out to begin with.
func (a *assembler) rollbackTo(name string) error {
	g := &a.group
	if g.proof != nil || g.skip {
		return nil
	}
	for i := len(g.savepoints) - 1; i >= 0; i-- {
		if !strings.EqualFold(g.savepoints[i].name, name) {
			continue
		}
		g.savepoints = g.savepoints[:i+1]
		a.buf.truncate(g.savepoints[i].mark)
		for e := range g.ends {
			g.ends[e] = min(g.ends[e], len(a.buf.rows))
		}
		a.recount()
		return nil
	}
	return fmt.Errorf("ROLLBACK TO %s: no such savepoint in this transaction", name)
}

// recount numbers the rows of the open group again.
func (a *assembler) recount() {
	g := &a.group
	g.ordinals, g.rows = g.ordinals[:0], 0
	for i := g.mark.rows; i < len(a.buf.rows); i++ {
		a.buf.rows[i].Ordinal = g.count(a.buf.rows[i].Table)
		g.rows++
	}
}
