package transform

import (
	"millrace/connector/pipeline"
)

// contextHeaders compiles Debezium's headers that are the same for all
// records of a run.
func (t *Transformer) contextHeaders() error {
	if !t.opts.ContextHeaders {
		return nil
	}
	conv := &t.opts.Header
	if why, ok := conv.accepts(connectString); !ok {
		return &pipeline.Refusal{
			Exit: pipeline.ExitConfig, Rule: "header-converter", Where: conv.Key,
			What: conv.Class + " cannot write the headers __debezium.context.*: " + why,
			Fix:  "set extended.headers.enabled=false, or header.converter=" + classSimple,
		}
	}
	for _, h := range [...][2]string{
		{"connectorLogicalName", t.opts.Prefix},
		{"taskId", "0"},
		{"connectorName", t.opts.Connector},
		{"runId", t.deps.RunID},
	} {
		value := []byte(h[1])
		if conv.Kind == ConvertJSON {
			value = appendJSONString(nil, value)
			if conv.Schemas {
				value = append(append([]byte(`{"schema":{"type":"string","optional":false},"payload":`), value...), '}')
			}
		}
		t.context = append(t.context, contextHeader{name: "__debezium.context." + h[0], value: value})
	}
	return nil
}

// allHeaders appends the row's headers in Debezium's order: the old key, the
// context, id, placements. The id that it returns beside them is that header's
// value, by which the record is known when it is read back.
func (r *routerPlan) allHeaders(j *rowJob) (headers []pipeline.Header, id []byte, err error) {
	b := j.batch
	start := len(b.HeaderArena)
	if j.renamed {
		value, err := r.oldKeyHeader(j)
		if err != nil {
			return nil, nil, err
		}
		b.HeaderArena = append(b.HeaderArena, pipeline.Header{Key: "__debezium.oldkey", Value: value})
	}
	r.addContext(b)
	if id, err = r.appendCell(j, r.idHeader); err != nil {
		return nil, nil, err
	}
	b.HeaderArena = append(b.HeaderArena, pipeline.Header{Key: "id", Value: id})
	headers, err = r.addPlaced(j, start)
	return headers, id, err
}

func (r *routerPlan) oldKeyHeader(j *rowJob) ([]byte, error) {
	b := j.batch
	at := len(b.Arena)
	var err error
	b.Arena, err = r.oldKey.append(&r.t.scratch, b.Arena, r.oldKey.prefix(r.schema+".Key"), j.row.Before)
	if err != nil {
		return nil, j.unreadable("PRIMARY KEY", err)
	}
	return b.Arena[at:len(b.Arena):len(b.Arena)], nil
}

func (p *plan) addContext(b *pipeline.Batch) {
	for i := range p.t.context {
		h := &p.t.context[i]
		b.HeaderArena = append(b.HeaderArena, pipeline.Header{Key: h.name, Value: h.value})
	}
}

// addPlaced appends the placed columns and returns all headers from start on.
func (p *plan) addPlaced(j *rowJob, start int) ([]pipeline.Header, error) {
	b := j.batch
	for i := range p.headers {
		h := &p.headers[i]
		value, err := p.appendCell(j, h.cell)
		if err != nil {
			return nil, err
		}
		b.HeaderArena = append(b.HeaderArena, pipeline.Header{Key: h.name, Value: value})
	}
	if start == len(b.HeaderArena) {
		return nil, nil
	}
	return b.HeaderArena[start:len(b.HeaderArena):len(b.HeaderArena)], nil
}

// partitionOf returns the placed partition, or -1 to leave it to the key.
func (p *plan) partitionOf(j *rowJob) (int32, error) {
	if p.partition == nil {
		return -1, nil
	}
	v, err := p.partition.read(j.row.After)
	if err != nil {
		return 0, j.unreadable(p.partition.meta.Name, err)
	}
	if v.IsNull() {
		return -1, nil
	}
	if n := v.Int(); n >= 0 && n <= 1<<31-1 {
		return int32(n), nil
	}
	return 0, j.refuse(pipeline.Refusal{Rule: "partition", What: "the value of the partition column is no partition", Where: p.partition.meta.Name})
}
