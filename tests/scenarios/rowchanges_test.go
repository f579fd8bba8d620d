package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// rowPublisher is the twin's connector: it publishes the changes of a table as the
// table has them, {"column": value, …}, with the table's own column names.
type rowPublisher struct {
	*stage
	table, topic string
	producer     *kgo.Client
}

// publishRows starts it, from here on until the story ends.
func (s *stage) publishRows(t *testing.T, table, topic string) {
	t.Helper()
	p := &rowPublisher{stage: s, table: table, topic: topic, producer: s.cluster.Client(t)}
	events := p.dump(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			e, err := events.GetEvent(ctx)
			if err == nil {
				err = p.publish(ctx, e)
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("publish rows: %v", err)
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// dump asks for the binary log from now on.
func (p *rowPublisher) dump(t *testing.T) *replication.BinlogStreamer {
	t.Helper()
	id, err := strconv.ParseUint(freshServerID(p.table), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: uint32(id), Flavor: mysql.MySQLFlavor, Host: p.db.Host, Port: uint16(p.db.Port),
		User: services.ConnectorUser, Password: services.ConnectorPassword, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(syncer.Close)
	var executed string
	if err := p.pool.QueryRowContext(t.Context(), "SELECT @@GLOBAL.gtid_executed").Scan(&executed); err != nil {
		t.Fatal(err)
	}
	from, err := mysql.ParseMysqlGTIDSet(executed)
	if err != nil {
		t.Fatal(err)
	}
	events, err := syncer.StartSyncGTID(from)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func (p *rowPublisher) publish(ctx context.Context, e *replication.BinlogEvent) error {
	rows, ok := e.Event.(*replication.RowsEvent)
	if !ok || string(rows.Table.Schema) != p.schema || string(rows.Table.Table) != p.table {
		return nil
	}
	names := rows.Table.ColumnNameString()
	// Of an update the log has the row before and the row after the change.
	for i := 1; i < len(rows.Rows); i += 2 {
		row := map[string]any{}
		for j, value := range rows.Rows[i] {
			if text, ok := value.([]byte); ok {
				value = string(text)
			}
			row[names[j]] = value
		}
		text, err := json.Marshal(row)
		if err != nil {
			return err
		}
		if err := p.producer.ProduceSync(ctx, &kgo.Record{Topic: p.topic, Key: fmt.Append(nil, row["id"]), Value: text}).FirstErr(); err != nil {
			return err
		}
	}
	return nil
}
