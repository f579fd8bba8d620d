package scenarios

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// progress keeps the offsets of a consumer in its own database, where they move in
// the transaction of the effect.
type progress struct {
	consumer string
	db       *sql.DB

	mu   sync.Mutex
	next map[string]int64 // by place
}

func newProgress(consumer string, db *sql.DB) *progress {
	return &progress{consumer: consumer, db: db, next: map[string]int64{}}
}

// errZombie says that another consumer has gone on from a later offset.
var errZombie = errors.New("somebody else owns this partition now")

// restore answers where the assigned partitions go on. Kafka's own offsets, which
// a group is offered, are not used.
func (p *progress) restore(ctx context.Context, assigned map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	for topic, parts := range assigned {
		for part := range parts {
			if _, err := p.db.ExecContext(ctx, "INSERT IGNORE INTO progress VALUES (?, ?, ?, 0)", p.consumer, topic, part); err != nil {
				return nil, fmt.Errorf("begin a partition: %w", err)
			}
			var offset int64
			err := p.db.QueryRowContext(ctx, "SELECT next_offset FROM progress WHERE consumer = ? AND topic = ? AND part = ?", p.consumer, topic, part).Scan(&offset)
			if err != nil {
				return nil, fmt.Errorf("look where a partition goes on: %w", err)
			}
			p.set(topic, part, offset)
			parts[part] = kgo.NewOffset().At(offset)
		}
	}
	return assigned, nil
}

// move moves the offset past a record. The condition keeps out a consumer that
// does not know that its partition has been given to another.
func (p *progress) move(ctx context.Context, tx *sql.Tx, r *kgo.Record) error {
	p.mu.Lock()
	expected := p.next[place(r.Topic, r.Partition)]
	p.mu.Unlock()
	result, err := tx.ExecContext(ctx, "UPDATE progress SET next_offset = ? WHERE consumer = ? AND topic = ? AND part = ? AND next_offset = ?",
		r.Offset+1, p.consumer, r.Topic, r.Partition, expected)
	if err != nil {
		return err
	}
	if moved, err := result.RowsAffected(); err != nil || moved == 0 {
		return errors.Join(err, errZombie)
	}
	return nil
}

// moved notes that the transaction which moved the offset is committed.
func (p *progress) moved(r *kgo.Record) { p.set(r.Topic, r.Partition, r.Offset+1) }

func (p *progress) set(topic string, part int32, next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next[place(topic, part)] = next
}
