package scenarios

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/services"
)

// balance is a consumer's effect: the sum of the payments.
type balance struct {
	consumer string
	db       *sql.DB
	// progress is where the offsets stand that Kafka does not keep.
	progress *progress
}

// naive adds what it is handed.
func (b *balance) naive(ctx context.Context, e event) error {
	_, err := b.db.ExecContext(ctx, "UPDATE balance SET cents = cents + ? WHERE consumer = ?", e.Payload["cents"], b.consumer)
	return err
}

// once adds a payment unless its event has been processed.
func (b *balance) once(ctx context.Context, e event) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	result, err := tx.ExecContext(ctx, "INSERT IGNORE INTO processed (consumer, event_id) VALUES (?, ?)", b.consumer, e.ID)
	if err != nil {
		return err
	}
	if fresh, err := result.RowsAffected(); err != nil || fresh == 0 {
		return err // its effect is there
	}
	if _, err := tx.ExecContext(ctx, "UPDATE balance SET cents = cents + ? WHERE consumer = ?", e.Payload["cents"], b.consumer); err != nil {
		return err
	}
	return tx.Commit()
}

// withOffset adds a payment and moves the offset.
func (b *balance) withOffset(ctx context.Context, e event, r *kgo.Record) error {
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it does nothing
	if err := b.progress.move(ctx, tx, r); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE balance SET cents = cents + ? WHERE consumer = ?", e.Payload["cents"], b.consumer); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	b.progress.moved(r)
	return nil
}

// accountPartitions is how many partitions the topic has.
const accountPartitions = 3

// envConsumer makes this test program be a consumer; it holds a consumerSetup.
const envConsumer = "STORY_CONSUMER"

// consumerSetup is what a consumer process is told.
type consumerSetup struct {
	Mode, Bootstrap, Registry, Topic, Group string
	Host                                    string
	Port                                    int
	User, Password, Schema                  string
	// Seed and Life choose where this process dies.
	Seed, Life uint64
}

// runConsumer starts a consumer in a process of its own, and reports whether it
// was killed rather than done.
func (s *stage) runConsumer(ctx context.Context, setup consumerSetup) (killed bool, err error) {
	text, err := json.Marshal(setup)
	if err != nil {
		return false, err
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), envConsumer+"="+string(text))
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: %s", err, out)
	}
	return false, nil
}

// consumerProcess is the main function of such a process; it returns its exit code.
func consumerProcess(text string) int {
	var setup consumerSetup
	err := json.Unmarshal([]byte(text), &setup)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err = setup.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// run reads the topic to its end, from where the consumer before it got to.
func (c consumerSetup) run(ctx context.Context) error {
	at := services.Database{Host: c.Host, Port: c.Port, User: c.User, Password: c.Password}
	b := &balance{consumer: c.Mode, db: at.Open(c.Schema)}
	defer b.db.Close()
	b.progress = newProgress(c.Mode, b.db)
	d, err := newDecoder(c.Registry)
	if err != nil {
		return err
	}
	opts, err := c.options(ctx, b.progress)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	seen, err := c.before(ctx, client, b.progress)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(c.Seed, c.Life))
	effect := func(r *kgo.Record) error {
		e, err := d.decode(ctx, r.Value)
		if err != nil {
			return err
		}
		switch c.Mode {
		case "processed":
			err = b.once(ctx, e)
		case "offsets":
			err = b.withOffset(ctx, e, r)
		default:
			err = b.naive(ctx, e)
		}
		if random.IntN(40) == 0 {
			// The worst place: the effect is committed, the offset is not.
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return err
	}
	return c.loop(ctx, client, seen, effect)
}

func (c consumerSetup) options(ctx context.Context, own *progress) ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(strings.Split(c.Bootstrap, ",")...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords()}
	if c.Mode == "offsets" {
		all := map[int32]kgo.Offset{}
		for p := range int32(accountPartitions) {
			all[p] = kgo.NewOffset()
		}
		from, err := own.restore(ctx, map[string]map[int32]kgo.Offset{c.Topic: all})
		return append(opts, kgo.ConsumePartitions(from)), err
	}
	// Its name makes the next process the same member: it need not wait until the
	// group has noticed the death.
	return append(append(opts, groupOptions(c.Group, c.Topic)...), kgo.InstanceID("only")), nil
}

// before returns how far the lives before this one have read.
func (c consumerSetup) before(ctx context.Context, client *kgo.Client, own *progress) (map[string]int64, error) {
	seen := maps.Clone(own.next)
	if c.Mode == "offsets" {
		return seen, nil
	}
	committed, err := kadm.NewClient(client).FetchOffsetsForTopics(ctx, c.Group, c.Topic)
	if err == nil {
		err = committed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask for committed offsets: %w", err)
	}
	committed.Each(func(o kadm.OffsetResponse) { seen[place(o.Topic, o.Partition)] = o.At })
	return seen, nil
}

// loop commits offsets, where Kafka keeps them, after every ten records.
func (c consumerSetup) loop(ctx context.Context, client *kgo.Client, seen map[string]int64, effect func(*kgo.Record) error) error {
	for {
		if done, err := end(ctx, client, seen, c.Topic); done || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("the end was not reached: %w", err)
		}
		for _, r := range client.PollRecords(ctx, 10).Records() {
			seen[place(r.Topic, r.Partition)] = r.Offset + 1
			if r.Attrs.IsControl() {
				continue
			}
			if err := effect(r); err != nil {
				return err
			}
		}
		if c.Mode != "offsets" {
			if err := client.CommitUncommittedOffsets(ctx); err != nil && !passes(err) {
				return err
			}
			client.AllowRebalance()
		}
	}
}
