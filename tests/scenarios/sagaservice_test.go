package scenarios

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"millrace/tests/services"
)

// envService makes this test program be a service of the saga; it holds its
// sagaSetup.
const envService = "STORY_SERVICE"

// sagaSetup is what a service is told when it starts.
type sagaSetup struct {
	Service, Bootstrap, Registry, Group string
	// Topics are those of the aggregates order, stock and payment; Reads are the
	// aggregates of which the service wants to hear.
	Topics map[string]string
	Reads  []string

	Host                   string
	Port                   int
	User, Password, Schema string
	// Outbox is the way that works: the event stands in the transaction. Else the
	// service publishes after its commit.
	Outbox bool
	Orders int
	// Seed and Life choose where this life ends.
	Seed, Life uint64
}

// sagaService is a running service.
type sagaService struct {
	sagaSetup
	db      *sql.DB
	decoder *decoder
	client  *kgo.Client
}

// serviceProcess is the main function of a service; it returns its exit code. A
// service that meets an error ends: who started it starts it again.
func serviceProcess(text string) int {
	var setup sagaSetup
	err := json.Unmarshal([]byte(text), &setup)
	if err == nil {
		err = setup.run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (c sagaSetup) run(ctx context.Context) error {
	at := services.Database{Host: c.Host, Port: c.Port, User: c.User, Password: c.Password}
	s := &sagaService{sagaSetup: c, db: at.Open(c.Schema)}
	defer s.db.Close()
	var topics []string
	for _, aggregate := range c.Reads {
		topics = append(topics, c.Topics[aggregate])
	}
	var err error
	if s.decoder, err = newDecoder(c.Registry); err != nil {
		return err
	}
	// With its name the next life of the service is the same member of the group.
	opts := append(groupOptions(c.Group, topics...), kgo.InstanceID(c.Service), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(200*time.Millisecond), kgo.SeedBrokers(strings.Split(c.Bootstrap, ",")...), kgo.RecordDeliveryTimeout(5*time.Second))
	if s.client, err = kgo.NewClient(opts...); err != nil {
		return err
	}
	defer s.client.CloseAllowingRebalance()
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		fate := s.fate(1)
		return consume(ctx, s.client, func(r *kgo.Record) error { return s.handle(ctx, fate, r) })
	})
	if c.Service == "order" {
		work.Go(func() error { return s.takeOrders(ctx, s.fate(2)) })
	}
	return work.Wait()
}

// fate decides where this life ends.
func (s *sagaService) fate(stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(s.Seed, s.Life<<8+stream))
}

// oneIn is how many transactions a life has on average.
const oneIn = 60

// change runs do in a transaction, with the event that do returns.
func (s *sagaService) change(ctx context.Context, fate *rand.Rand, do func(*sql.Tx) (*outboxRow, error)) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	told, err := do(tx)
	if err != nil {
		return err
	}
	if told != nil && s.Outbox {
		if err := told.insert(ctx, tx, "payload"); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if fate.IntN(oneIn) == 0 {
		// The worst place: the change is committed, and nothing else is.
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	if told != nil && !s.Outbox {
		return s.publish(ctx, told)
	}
	return nil
}

// publish is the twin's way. What is lost here is lost: the change is committed.
func (s *sagaService) publish(ctx context.Context, told *outboxRow) error {
	value, err := json.Marshal(told.payload)
	if err != nil {
		return err
	}
	return s.client.ProduceSync(ctx, &kgo.Record{Topic: s.Topics[told.aggregate], Key: []byte(told.key), Value: value, Headers: []kgo.RecordHeader{
		{Key: "id", Value: []byte(uuid.NewString())}, {Key: "eventType", Value: []byte(told.kind)}}}).FirstErr()
}

// read makes an event of a record: an envelope, or in the twin JSON.
func (s *sagaService) read(ctx context.Context, r *kgo.Record) (event, error) {
	if s.Outbox {
		return s.decoder.decode(ctx, r.Value)
	}
	e := event{ID: header(r, "id"), AggregateID: string(r.Key), Type: header(r, "eventType")}
	return e, json.Unmarshal(r.Value, &e.Payload)
}

// handle answers an event, once.
func (s *sagaService) handle(ctx context.Context, fate *rand.Rand, r *kgo.Record) error {
	if r.Attrs.IsControl() {
		return nil
	}
	react := reactions[s.Service+" "+header(r, "eventType")]
	if react == nil {
		return nil // not for this service
	}
	e, err := s.read(ctx, r)
	if err != nil {
		return err
	}
	return s.change(ctx, fate, func(tx *sql.Tx) (*outboxRow, error) {
		result, err := tx.ExecContext(ctx, "INSERT IGNORE INTO processed (consumer, event_id) VALUES (?, ?)", s.Service, e.ID)
		if err != nil {
			return nil, err
		}
		if fresh, err := result.RowsAffected(); err != nil || fresh == 0 {
			return nil, err // it was answered
		}
		return react(ctx, tx, e)
	})
}

// takeOrders is the shop's front: it goes on behind the last order that is there.
func (s *sagaService) takeOrders(ctx context.Context, fate *rand.Rand) error {
	last := 0
	if err := s.db.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) FROM orders").Scan(&last); err != nil {
		return err
	}
	for id := last + 1; id <= s.Orders; id++ {
		if err := s.change(ctx, fate, func(tx *sql.Tx) (*outboxRow, error) { return s.place(ctx, tx, id) }); err != nil {
			return err
		}
		select {
		case <-time.After(5 * time.Millisecond): // the pace of customers
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// What the shop has.
const (
	sagaCustomers = 20
	sagaProducts  = 10
)

// place takes an order. What is ordered depends on the seed and the number alone.
func (s *sagaService) place(ctx context.Context, tx *sql.Tx, id int) (*outboxRow, error) {
	wish := rand.New(rand.NewPCG(s.Seed, uint64(id)))
	customer, product, quantity := wish.IntN(sagaCustomers), wish.IntN(sagaProducts), 1+wish.IntN(3)
	cents := quantity * 100 * (product + 1)
	_, err := tx.ExecContext(ctx, "INSERT INTO orders (id, customer, product, quantity, cents, state) VALUES (?, ?, ?, ?, ?, 'pending')", id, customer, product, quantity, cents)
	return &outboxRow{"order", strconv.Itoa(id), "OrderPlaced",
		map[string]any{"order": id, "customer": customer, "product": product, "quantity": quantity, "cents": cents}}, err
}
