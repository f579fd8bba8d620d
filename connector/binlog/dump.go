package binlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/google/uuid"

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
	// the dump. raw is valid until it returns.
	handle func(raw []byte) error
}

// dump is a running dump connection. go-mysql connects and authenticates; what
// comes after the dump command is read here, without a copy for each event.
type dump struct {
	c       *connector
	req     dumpRequest
	conn    *client.Conn
	packets *packetReader
	events  dumpEvents
	settled bool          // silence means a dead connection
	done    chan struct{} // closed when the dump has ended
	err     error         // why; valid after done

	mu     sync.Mutex
	link   *link
	closed bool
}

// errClosed says that the dump was closed by its owner.
var errClosed = errors.New("closed")

// startDump registers as a replica and asks for events.
func (c *connector) startDump(ctx context.Context, req dumpRequest) (*dump, error) {
	d := &dump{c: c, req: req, done: make(chan struct{})}
	stop := context.AfterFunc(ctx, d.cut)
	err := d.open(ctx)
	if !stop() && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		refused := d.link != nil && d.link.refused
		d.cut()
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case refused:
			err = errPlainPassword
		}
		return nil, c.explain(err)
	}
	go d.run()
	return d, nil
}

// open connects, registers and asks for events.
func (d *dump) open(ctx context.Context) error {
	conn, err := client.ConnectWithDialer(ctx, "tcp", d.c.address(), d.c.opts.User, d.c.opts.Password, "", d.dial, func(conn *client.Conn) error {
		conn.SetTLSConfig(d.c.tls)
		conn.SetAttributes(map[string]string{"_client_role": "binary_log_listener"})
		return nil
	})
	if err != nil {
		return err
	}
	d.conn = conn
	d.link.greeted()
	if err := d.prepare(); err != nil {
		return err
	}
	if err := d.register(); err != nil {
		return fmt.Errorf("register as a replica: %w", err)
	}
	d.link.idle.Store(int64(seekFor))
	if d.req.set == nil {
		err = d.dumpFrom(d.req.file, d.req.pos)
	} else {
		err = d.dumpWithout(d.req.set)
	}
	if err != nil {
		return fmt.Errorf("ask for the binary log: %w", err)
	}
	// Every answer so far was read whole, so go-mysql's own buffer is empty.
	d.packets = newPacketReader(conn.Conn.Conn)
	d.events, d.settled = dumpEvents{}, false
	return nil
}

// dial opens the dump's connection, unless the dump is closed.
func (d *dump) dial(ctx context.Context, network, address string) (net.Conn, error) {
	l, err := d.c.dial(ctx, network, address, d.c.tls == nil)
	if err != nil {
		return nil, err
	}
	l.idle.Store(int64(max(d.c.opts.ConnectTimeout, d.c.opts.QueryTimeout)))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		_ = l.Close()
		return nil, errClosed
	}
	d.link = l
	return l, nil
}

// prepare sets the session up as a replica does.
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication.html
func (d *dump) prepare() error {
	o := &d.c.opts
	write := o.NetWriteTimeout
	if write == 0 {
		write = 10 * time.Minute
	}
	session := fmt.Sprintf("SET SESSION net_write_timeout=%d", int(write.Seconds()))
	if read := o.NetReadTimeout; read > 0 {
		session += fmt.Sprintf(", SESSION net_read_timeout=%d", int(read.Seconds()))
	}
	id, err := uuid.NewUUID()
	if err != nil {
		return fmt.Errorf("make a replica's UUID: %w", err)
	}
	statements := []string{
		session,
		// The events that the server makes up need no checksum, then; the
		// others come as they stand in the log.
		"SET @master_binlog_checksum='NONE', @source_binlog_checksum='NONE'",
		fmt.Sprintf("SET @master_heartbeat_period=%d, @source_heartbeat_period=%d", heartbeat, heartbeat),
		fmt.Sprintf("SET @slave_uuid='%s', @replica_uuid='%s'", id, id),
	}
	if o.Flavor == pipeline.MariaDB {
		// MARIA_SLAVE_CAPABILITY_GTID: without it GTID events come as queries.
		statements = append(statements, "SET @mariadb_slave_capability=4")
		if d.req.set != nil {
			statements = append(statements, "SET @slave_connect_state='"+d.req.set.String()+"'", "SET @slave_gtid_strict_mode=1")
		}
	}
	for _, statement := range statements {
		if _, err := d.conn.Execute(statement); err != nil {
			return err
		}
	}
	return nil
}

// command sends a command with its arguments.
func (d *dump) command(command byte, body []byte) error {
	d.conn.ResetSequence()
	return d.conn.WritePacket(append(append(make([]byte, packetHeader, packetHeader+1+len(body)), command), body...))
}

// register sends COM_REGISTER_SLAVE.
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_replication.html
func (d *dump) register() error {
	o := &d.c.opts
	name, user := replicaName(*o), o.User[:min(len(o.User), 255)]
	b := binary.LittleEndian.AppendUint32(nil, o.serverID(d.req.extra))
	b = append(append(b, byte(len(name))), name...)
	b = append(append(b, byte(len(user))), user...)
	b = append(b, 0) // no password
	b = binary.LittleEndian.AppendUint16(b, uint16(o.Port))
	b = append(b, make([]byte, 8)...) // rank, master id
	if err := d.command(mysql.COM_REGISTER_SLAVE, b); err != nil {
		return err
	}
	_, err := d.conn.ReadOKPacket()
	return err
}

// replicaName is what a dump connection registers as; SHOW REPLICAS shows it
// as its host.
func replicaName(o Options) string {
	name := "millrace-" + o.Name
	return name[:min(len(name), 60)] // what MySQL's packet takes
}

// dumpFrom sends COM_BINLOG_DUMP.
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_binlog_dump.html
func (d *dump) dumpFrom(file string, pos uint32) error {
	b := binary.LittleEndian.AppendUint32(nil, pos)
	b = append(b, 0, 0) // flags
	b = binary.LittleEndian.AppendUint32(b, d.c.opts.serverID(d.req.extra))
	return d.command(mysql.COM_BINLOG_DUMP, append(b, file...))
}

// dumpWithout asks for what is not in a set of GTIDs: by COM_BINLOG_DUMP_GTID
// or, on MariaDB, by the session's @slave_connect_state.
// https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_binlog_dump_gtid.html
func (d *dump) dumpWithout(set *gtidSet) error {
	if set.flavor == pipeline.MariaDB {
		return d.dumpFrom("", 0)
	}
	parsed, err := mysql.ParseGTIDSet(string(set.flavor), set.String())
	if err != nil {
		return fmt.Errorf("read GTID set: %w", err)
	}
	gtids := parsed.Encode()
	b := []byte{0, 0} // flags
	b = binary.LittleEndian.AppendUint32(b, d.c.opts.serverID(d.req.extra))
	b = binary.LittleEndian.AppendUint32(b, 0) // no file name
	b = binary.LittleEndian.AppendUint64(b, 4) // behind a file's magic number
	b = binary.LittleEndian.AppendUint32(b, uint32(len(gtids)))
	return d.command(mysql.COM_BINLOG_DUMP_GTID, append(b, gtids...))
}

// seekFor is how long a server may be silent while it looks for the place
// where a dump begins: MariaDB reads a log file from its start and sends no
// heartbeats meanwhile.
const seekFor = 5 * time.Minute

// run reads until the connection, the server or handle ends it.
func (d *dump) run() {
	defer close(d.done)
	if plantedReconnect {
		d.plantedTrack()
	}
	d.err = d.read()
	for plantedReconnect && d.plantedAgain() {
		d.err = d.read()
	}
}

// Kinds of packets in a dump.
const (
	packetEvent = 0x00
	packetError = 0xff
	packetEnd   = 0xfe
)

// read hands events over.
func (d *dump) read() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while reading an event: %v", p)
		}
	}()
	for {
		packet, err := d.packets.next()
		switch {
		case err != nil:
			return err
		case len(packet) == 0:
			return errors.New("the server sent an empty packet")
		}
		switch packet[0] {
		case packetEvent:
		case packetError:
			return d.conn.HandleErrorPacket(packet)
		case packetEnd:
			return errors.New("the server ended the stream")
		default:
			return fmt.Errorf("the server sent a packet of kind %#x", packet[0])
		}
		raw := packet[1:]
		if err := d.events.check(raw); err != nil {
			return err
		}
		if d.events.found && !d.settled {
			// The server has found the place, and sends heartbeats from now on.
			d.settled = true
			d.link.idle.Store(int64(deadAfter))
		}
		if err := d.req.handle(raw); err != nil {
			return err
		}
	}
}

// dumpEvents looks at the events of a dump as they come.
type dumpEvents struct {
	// checksum says that events end in a CRC32.
	checksum bool
	// found says that the server has found the place where the dump begins.
	found bool
}

var errChecksum = errors.New("an event's checksum is wrong: it was damaged on the way, or stands damaged in the log")

// check verifies an event's checksum.
func (e *dumpEvents) check(raw []byte) error {
	if len(raw) < headerSize {
		return errShortEvent
	}
	switch kind := raw[4]; kind {
	case evHeartbeat, evHeartbeatV2, evGTID, evAnonymousGTID, evTaggedGTID, evMariaGTID:
		e.found = true
	case evFormatDescription:
		if len(raw) < headerSize+checksumSize+1 {
			return errShortEvent
		}
		e.checksum = raw[len(raw)-checksumSize-1] == 1
		return nil
	}
	if !e.checksum {
		return nil
	}
	end := len(raw) - checksumSize
	if end < headerSize || crc32.ChecksumIEEE(raw[:end]) != binary.LittleEndian.Uint32(raw[end:]) {
		return errChecksum
	}
	return nil
}

// cut closes the network connection.
func (d *dump) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	if d.link != nil {
		_ = d.link.Close()
	}
}

// close ends the dump and waits for its goroutine; handle must not be blocked.
func (d *dump) close() {
	d.cut()
	<-d.done
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
