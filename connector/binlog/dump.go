package binlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"millrace/connector/pipeline"
)

// Every dump connection has a server id of its own: database.server.id plus
// this times database.server.id.offset.
const (
	extraStream    = 0
	extraReadAhead = 1
	extraOverlap   = 2
	extraXA        = 3
	extraHelpers   = 4 // how many ids are used
)

// serverID returns the id of a dump connection.
func (o Options) serverID(extra uint32) uint32 { return o.ServerID + extra*o.ServerIDOffset }

// dumpRequest says from where to dump and who takes the events.
type dumpRequest struct {
	extra uint32 // which server id
	// set is the GTIDs to leave out; nil: begin at file and pos.
	set  *gtidSet
	file string
	pos  uint32
	// handle takes each raw event, in a goroutine of the dump; an error ends
	// the dump. It may keep raw.
	handle func(raw []byte) error
}

// dump is a running dump connection.
type dump struct {
	syncer *replication.BinlogSyncer
	done   chan struct{} // closed when the dump has ended
	err    error         // why; valid after done

	mu      sync.Mutex
	links   []*link
	closed  bool
	watched bool
}

// errClosed says that the dump was closed by its owner.
var errClosed = errors.New("closed")

// startDump registers as a replica and asks for events.
func (c *connector) startDump(ctx context.Context, req dumpRequest) (*dump, error) {
	d := &dump{done: make(chan struct{})}
	d.syncer = replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: c.opts.serverID(req.extra), Flavor: string(c.opts.Flavor),
		Host: c.opts.Host, Port: uint16(c.opts.Port), User: c.opts.User, Password: c.opts.Password,
		Localhost: replicaName(c.opts), TLSConfig: c.tls,
		RawModeEnabled: true, VerifyChecksum: true, DisableRetrySync: !plantedReconnect,
		HeartbeatPeriod: heartbeat, EventCacheCount: 1, TimestampStringLocation: time.UTC,
		Option:                  c.prepareDump,
		Logger:                  slog.New(quietHandler{c.log.Handler()}),
		Dialer:                  d.dialer(ctx, c),
		SynchronousEventHandler: d.handler(req.handle),
	})
	stop := context.AfterFunc(ctx, d.cut)
	streamer, err := d.start(req)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		stop()
		refused := d.refused()
		d.close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if refused {
			err = errPlainPassword
		}
		return nil, c.explain(err)
	}
	d.watched = true
	go d.watch(streamer)
	return d, nil
}

func (d *dump) start(req dumpRequest) (*replication.BinlogStreamer, error) {
	if req.set == nil {
		return d.syncer.StartSync(mysql.Position{Name: req.file, Pos: req.pos})
	}
	set, err := mysql.ParseGTIDSet(string(req.set.flavor), req.set.String())
	if err != nil {
		return nil, fmt.Errorf("read GTID set: %w", err)
	}
	return d.syncer.StartSyncGTID(set)
}

// replicaName is what a dump connection registers as; SHOW REPLICAS shows it
// as its host.
func replicaName(o Options) string {
	name := "millrace-" + o.Name
	return name[:min(len(name), 60)] // what MySQL's packet takes
}

// prepareDump sets the session up before it registers.
func (c *connector) prepareDump(conn *client.Conn) error {
	write := c.opts.NetWriteTimeout
	if write == 0 {
		write = 10 * time.Minute
	}
	sql := fmt.Sprintf("SET SESSION net_write_timeout=%d", int(write.Seconds()))
	if read := c.opts.NetReadTimeout; read > 0 {
		sql += fmt.Sprintf(", SESSION net_read_timeout=%d", int(read.Seconds()))
	}
	_, err := conn.Execute(sql)
	return err
}

// dialer opens the dump's connection. go-mysql would open another one when it
// is closed, to KILL the first; behind a moved address that id may be someone
// else's connection, so this one opens nothing once the dump is closed.
func (d *dump) dialer(ctx context.Context, c *connector) client.Dialer {
	return func(_ context.Context, network, address string) (net.Conn, error) {
		d.mu.Lock()
		closed := d.closed
		d.mu.Unlock()
		if closed {
			return nil, errClosed
		}
		l, err := c.dial(ctx, network, address, c.tls == nil)
		if err != nil {
			return nil, err
		}
		l.idle.Store(int64(seekFor))
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.closed {
			_ = l.Close()
			return nil, errClosed
		}
		d.links = append(d.links, l)
		return l, nil
	}
}

// seekFor is how long a server may be silent while it looks for the place
// where a dump begins: MariaDB reads a log file from its start and sends no
// heartbeats meanwhile.
const seekFor = 5 * time.Minute

// handler gives events to handle. With the first one that shows that the
// server has found its place, silence begins to mean a dead connection.
func (d *dump) handler(handle func(raw []byte) error) eventHandler {
	found := false
	return func(raw []byte) error {
		if !found && len(raw) >= headerSize {
			switch raw[4] {
			case evHeartbeat, evHeartbeatV2, evGTID, evAnonymousGTID, evTaggedGTID, evMariaGTID:
				found = true
				d.expectHeartbeats()
			}
		}
		return handle(raw)
	}
}

func (d *dump) expectHeartbeats() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.links {
		l.idle.Store(int64(deadAfter))
	}
}

func (d *dump) refused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.links {
		if l.refused {
			return true
		}
	}
	return false
}

// watch waits for the end of the dump.
func (d *dump) watch(streamer *replication.BinlogStreamer) {
	_, d.err = streamer.GetEvent(context.Background())
	close(d.done)
}

// cut closes the network connection.
func (d *dump) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, l := range d.links {
		_ = l.Close()
	}
}

// close ends the dump and waits for its goroutines; handle must not be
// blocked.
func (d *dump) close() {
	d.cut()
	d.syncer.Close()
	if d.watched {
		<-d.done
	}
}

// dumpUntil dumps until handle returns an error; errScouted is a good end.
func (c *connector) dumpUntil(ctx context.Context, req dumpRequest) error {
	var handled error
	handle := req.handle
	req.handle = func(raw []byte) error {
		handled = handle(raw)
		return handled
	}
	d, err := c.startDump(ctx, req)
	if err != nil {
		return err
	}
	select {
	case <-d.done:
		d.close()
	case <-ctx.Done():
		d.close()
		return ctx.Err()
	}
	switch {
	case handled == nil:
		return c.explainDump(d.err)
	case errors.Is(handled, errScouted):
		return nil
	default:
		return handled
	}
}

// eventHandler gives go-mysql's raw events to a function.
type eventHandler func(raw []byte) error

// HandleEvent is called by go-mysql's goroutine.
func (h eventHandler) HandleEvent(e *replication.BinlogEvent) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while reading an event: %v", p)
		}
	}()
	return h(e.RawData)
}

// quietHandler lets go-mysql's log through at debug level only, without its
// configuration.
type quietHandler struct{ slog.Handler }

// Enabled reports whether debug messages are wanted.
func (h quietHandler) Enabled(ctx context.Context, _ slog.Level) bool {
	return h.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle passes a record on at debug level.
func (h quietHandler) Handle(ctx context.Context, r slog.Record) error {
	quiet := slog.NewRecord(r.Time, slog.LevelDebug, "go-mysql: "+r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "config" {
			quiet.AddAttrs(a)
		}
		return true
	})
	return h.Handler.Handle(ctx, quiet)
}

// WithAttrs keeps the wrapping.
func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the wrapping.
func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name)}
}

// explainDump says what an error of the server means that ended a dump.
func (c *connector) explainDump(err error) error {
	var e *mysql.MyError
	if !errors.As(err, &e) || e.Code != mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG {
		return c.explain(err)
	}
	r := explainFatal(e.Message)
	if r == nil {
		return fmt.Errorf("%w: %w", pipeline.ErrSourceLost, err)
	}
	r.Where, r.Cause = c.address(), err
	return r
}
