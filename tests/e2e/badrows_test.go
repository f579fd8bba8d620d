package e2e

import (
	"strings"
	"testing"

	"millrace/tests/services"
)

// outbox is a step that makes a table of the row's own, with further columns,
// or other ones in the place of the usual.
func outbox(columns ...string) func(t *testing.T, r *rig) {
	return func(t *testing.T, r *rig) {
		t.Helper()
		name := r.table()
		have := map[string]string{"id": "CHAR(36)", "aggregatetype": "VARCHAR(64)", "aggregateid": "VARCHAR(64)", "type": "VARCHAR(64)", "payload": "JSON"}
		order := []string{"id", "aggregatetype", "aggregateid", "type", "payload"}
		for _, c := range columns {
			column, kind, _ := strings.Cut(c, " ")
			if have[column] == "" {
				order = append(order, column)
			}
			have[column] = kind
		}
		definition := make([]string, len(order))
		for i, column := range order {
			definition[i] = column + " " + have[column]
		}
		statements("CREATE TABLE SCHEMA."+name+" ("+strings.Join(definition, ", ")+")")(t, r)
		r.settings["table.include.list"] = `.*\.` + name
	}
}

// table is the name of the row's own table.
func (r *rig) table() string { return "o" + r.name[strings.LastIndexByte(r.name, '-')+1:] }

// insert is a step that inserts a row: columns of the usual ones that are named
// get values, the others are as in a good row.
func insert(changes ...string) func(t *testing.T, r *rig) {
	return func(t *testing.T, r *rig) {
		t.Helper()
		values := map[string]string{
			"id": "'" + id1 + "'", "aggregatetype": "'order'", "aggregateid": "'7'", "type": "'OrderPlaced'", "payload": `'{"aggregate": 7, "version": 1}'`,
		}
		var session []string
		for i := 0; i < len(changes); i += 2 {
			if changes[i] == "SESSION" {
				session = append(session, "SET SESSION "+changes[i+1])
			} else {
				values[changes[i]] = changes[i+1]
			}
		}
		var names, list []string
		for name, value := range values {
			if value != "" {
				names, list = append(names, name), append(list, value)
			}
		}
		statements(append(session, "INSERT INTO SCHEMA."+r.table()+" ("+strings.Join(names, ", ")+") VALUES ("+strings.Join(list, ", ")+")")...)(t, r)
	}
}

// bad is a row of a table that has another shape than others, and is made bad
// by a value.
func bad(name string, shape, row func(t *testing.T, r *rig), settings ...string) refusalRow {
	changes := map[string]string{}
	for i := 0; i < len(settings); i += 2 {
		changes["transforms.outbox."+settings[i]] = settings[i+1]
		if strings.HasPrefix(settings[i], "=") {
			delete(changes, "transforms.outbox."+settings[i])
			changes[settings[i][1:]] = settings[i+1]
		}
	}
	return refusalRow{name: name, before: shape, then: row, changes: changes}
}

// routed are the settings of Debezium's router form.
var routed = []string{
	"type", router, "=value.converter", "org.apache.kafka.connect.storage.StringConverter", "=value.converter.schema.registry.url", "", "=millrace.schemas.path", "",
}

func routerRow(name string, shape, row func(t *testing.T, r *rig), settings ...string) refusalRow {
	return bad(name, shape, row, append(append([]string{}, routed...), settings...)...)
}

const placement = "table.fields.additional.placement"

// badRows are rows that cannot become events, in tables that are good.
func badRows() []refusalRow {
	return []refusalRow{
		bad("no aggregate type", outbox(), insert("aggregatetype", "NULL")),
		bad("an empty aggregate type", outbox(), insert("aggregatetype", "''")),
		bad("an aggregate type that no topic can have", outbox(), insert("aggregatetype", "'a b'")),
		bad("an aggregate type that is too long for a topic", outbox("aggregatetype VARCHAR(300)"), insert("aggregatetype", "REPEAT('a', 260)")),
		bad("no key", outbox(), insert("aggregateid", "NULL")),
		bad("an empty key", outbox(), insert("aggregateid", "''")),
		bad("no id", outbox(), insert("id", "NULL")),
		bad("no event type", outbox(), insert("type", "NULL")),
		bad("an event type that nobody declared", outbox(), insert("type", "'OrderLost'")),
		bad("a payload of another type", outbox(), insert("payload", `'{"aggregate": "seven", "version": 1}'`)),
		bad("a payload that lacks a field", outbox(), insert("payload", `'{"version": 1}'`)),
		bad("a payload with a field too many", outbox(), insert("payload", `'{"aggregate": 1, "version": 1, "colour": 1}'`)),
		bad("a payload beyond its type", outbox(), insert("payload", `'{"aggregate": 3000000000, "version": 1}'`)),
		bad("no payload", outbox(), insert("payload", "NULL")),
		bad("a payload that is no JSON", outbox("payload TEXT"), insert("payload", "'{'")),
		bad("a payload in a number", outbox("payload INT"), insert("payload", "7")),
		bad("a time that is no date", outbox("at DATETIME"), insert("SESSION", "sql_mode = ''", "at", "'0000-00-00'"), "table.field.event.timestamp", "at"),
		bad("a time before Kafka's", outbox("at DATETIME"), insert("at", "'1960-01-01'"), "table.field.event.timestamp", "at"),
		bad("a negative partition", outbox("p INT"), insert("p", "-1"), placement, "p:partition"),
		bad("a partition beyond the topic's", outbox("p INT"), insert("p", "7"), placement, "p:partition"),
		bad("a header that is no date", outbox("at DATETIME"), insert("SESSION", "sql_mode = 'ALLOW_INVALID_DATES'", "at", "'2024-02-31'"), placement, "at:header"),
		bad("a row image without a column", outbox(), insert("SESSION", "binlog_row_image = MINIMAL", "payload", "")),
		bad("an update of an outbox row", outbox(), func(t *testing.T, r *rig) {
			t.Helper()
			statements("SET SESSION sql_log_bin = 0", "INSERT INTO SCHEMA."+r.table()+" (id, aggregatetype) VALUES ('1', 'order')",
				"SET SESSION sql_log_bin = 1", "UPDATE SCHEMA."+r.table()+" SET aggregateid = '8'")(t, r)
		}, "table.op.invalid.behavior", "fatal"),
		// Behind the others, which register the schemas of order.
		bad("an unknown aggregate where none may be registered", outbox(), insert("aggregatetype", "'payment'"), "=value.converter.auto.register.schemas", "false"),
	}
}

// TestRefusalsOfRows is the table of rows, and shapes of tables, that cannot
// become events.
func TestRefusalsOfRows(t *testing.T) {
	t.Parallel()
	r := newRig(t, services.MySQL(t), 1)
	delete(r.settings, "transforms.outbox.table.fields.additional.placement")
	r.refuse(t, openGolden(t, "rows"), append(badRows(), []refusalRow{
		bad("no such column", outbox(), insert(), "table.field.event.id", "uid"),
		bad("a trace context that is no text", outbox("trace INT"), insert(), "=millrace.trace.traceparent.column", "trace"),
		bad("an event time that is none", outbox("at INT"), insert(), "table.field.event.timestamp", "at"),
		bad("routing by a number", outbox("kind INT"), insert("kind", "1"), "route.by.field", "kind"),
		bad("a partition that is no INT", outbox("p BIGINT"), insert("p", "1"), placement, "p:partition"),
		bad("a column that has no text", outbox("place GEOMETRY"), insert(), placement, "place:header"),
		bad("a header that its converter cannot write", outbox(), insert(), placement, "type:header", "=header.converter", "org.apache.kafka.connect.converters.ByteArrayConverter", "=extended.headers.enabled", "false"),
		routerRow("a timestamp column that is not there", outbox(), insert(), "table.field.event.timestamp", "at"),
		routerRow("a timestamp of text", outbox("at VARCHAR(9)"), insert(), "table.field.event.timestamp", "at"),
		routerRow("a timestamp of a number", outbox("at BIGINT"), insert(), "table.field.event.timestamp", "at"),
		routerRow("a timestamp of a time", outbox("at TIME"), insert(), "table.field.event.timestamp", "at"),
		routerRow("a field that is not there", outbox(), insert(), placement, "colour:envelope"),
		routerRow("two fields of one name", outbox(), insert(), placement, "type:envelope:payload", "=value.converter", "org.apache.kafka.connect.json.JsonConverter"),
		routerRow("a payload that its converter cannot write", outbox(), insert(), "=value.converter", "org.apache.kafka.connect.converters.ByteArrayConverter"),
		routerRow("an old key that its converter cannot write", outbox(), insert(), "=header.converter", "org.apache.kafka.connect.converters.ByteArrayConverter", "=extended.headers.enabled", "false", "table.field.event.id", "payload"),
		routerRow("context headers that their converter cannot write", outbox(), insert(), "=header.converter", "org.apache.kafka.connect.converters.ByteArrayConverter"),
	}...))
}
