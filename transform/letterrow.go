package transform

import (
	"fmt"
	"strings"

	"millrace/connector/pipeline"
)

// CutColumn returns the name of a column whose value was too large for the
// dead letter, or "".
func (l *DeadLetter) CutColumn() string {
	for i := range l.Row {
		for _, v := range [...]*LetterValue{l.Row[i].Before, l.Row[i].After} {
			if v != nil && v.Cut != nil {
				return l.Row[i].Name
			}
		}
	}
	return ""
}

// Segment makes the row again as the log held it, without the columns that no
// record was made of. gtid is that of l.GTID.
func (l *DeadLetter) Segment(gtid pipeline.GTID) (*pipeline.Segment, error) {
	schema, name, _ := strings.Cut(l.Table, ".")
	row := pipeline.Row{Table: &pipeline.Table{Schema: schema, Name: name}, Ordinal: l.Ordinal}
	for op := pipeline.Insert; op <= pipeline.Delete; op++ {
		if op.String() == l.Op {
			row.Op = op
		}
	}
	if row.Op == 0 {
		return nil, fmt.Errorf("read a dead letter: the operation is %q", l.Op)
	}
	for i := range l.Row {
		c := &l.Row[i]
		row.Table.Columns = append(row.Table.Columns, pipeline.Column{
			Name: c.Name, Type: typeNamed(c.Type), Unsigned: c.Unsigned, Nullable: c.Nullable, Length: c.Length, Precision: c.Precision,
			Scale: c.Scale, Fraction: c.Fraction, Collation: c.Collation, Labels: c.Labels, PrimaryKey: c.PrimaryKey,
		})
		before, err := c.Before.value()
		if err != nil {
			return nil, fmt.Errorf("read a dead letter: column %s: %w", c.Name, err)
		}
		after, err := c.After.value()
		if err != nil {
			return nil, fmt.Errorf("read a dead letter: column %s: %w", c.Name, err)
		}
		if row.Op != pipeline.Insert {
			row.Before = append(row.Before, before)
		}
		if row.Op != pipeline.Delete {
			row.After = append(row.After, after)
		}
	}
	tx := pipeline.Tx{GTID: gtid, CommitTime: l.CommitUS, File: l.File, StartPos: l.Pos}
	return &pipeline.Segment{Rows: []pipeline.Row{row}, Txs: []pipeline.Tx{tx}, First: true, Last: true}, nil
}

// typeNamed is sqlNames the other way round.
func typeNamed(name string) pipeline.ColumnType {
	for t, n := range sqlNames {
		if n == name {
			return t
		}
	}
	return pipeline.TypeUnknown
}

// value is the value in the form that the log's has; nil is an absent one.
func (v *LetterValue) value() (pipeline.Value, error) {
	if v == nil {
		return pipeline.Value{}, nil
	}
	for kind, name := range kindNames {
		if name != v.Kind {
			continue
		}
		out := pipeline.Value{Kind: kind, Word: v.Word}
		switch kind {
		case pipeline.KindBytes, pipeline.KindJSON, pipeline.KindBadText:
			out.Bytes = v.Bytes
		case pipeline.KindDecimal, pipeline.KindText, pipeline.KindEnum, pipeline.KindSet, pipeline.KindInet:
			out.Bytes = []byte(v.Text)
		default:
		}
		return out, nil
	}
	return pipeline.Value{}, fmt.Errorf("the kind of a value is %q", v.Kind)
}
