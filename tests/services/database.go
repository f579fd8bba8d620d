package services

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	// The driver registers itself with database/sql as "mysql".
	"github.com/go-mysql-org/go-mysql/driver"
)

// Flavor is the kind of a database server.
type Flavor string

// The flavors.
const (
	FlavorMySQL   Flavor = "mysql"
	FlavorMariaDB Flavor = "mariadb"
)

// Accounts that every server has. A server from the environment has its own
// administrator; the connector's account is made there too.
const (
	adminPassword = "admin"
	// ConnectorUser and ConnectorPassword belong to an account with the grants
	// that Debezium's documentation asks for, from any host.
	ConnectorUser     = "connector"
	ConnectorPassword = "connector-pw"
)

// Database is a MySQL or MariaDB server.
type Database struct {
	*Server
	Flavor Flavor
	Host   string
	Port   int
	// User and Password belong to an administrator who may do everything.
	User, Password string
	// Socket is the Unix socket of an owned server, empty for a shared one.
	Socket string
}

// DatabaseOptions changes how a database server is started.
type DatabaseOptions struct {
	// Dir keeps the data; empty for a temporary folder that Close removes.
	Dir string
	// Port is 0 for any free one.
	Port int
	// Program is a MySQL server of the machine's own to run, such as
	// MySQLOnPath found; empty for the private prefix.
	Program string
	// Args are appended to the server's command line, after our settings.
	Args []string
	// TLS is the server's certificate. Without it MySQL has one that it made
	// itself, MariaDB 10.11 none.
	TLS *Identity
	// RequireTLS refuses connections without TLS.
	RequireTLS bool
}

// Addr returns host:port.
func (d *Database) Addr() string { return net.JoinHostPort(d.Host, strconv.Itoa(d.Port)) }

// collation is what connections ask for: without it a server whose default is
// another character set would take our UTF-8 for that one.
const collation = "utf8mb4_general_ci"

// DSN returns the address of a database for database/sql with the driver name
// "mysql", as the administrator. An empty name selects no database.
func (d *Database) DSN(name string) string {
	return d.account() + "/" + name + "?collation=" + collation
}

// account returns user:password@host:port.
func (d *Database) account() string { return fmt.Sprintf("%s:%s@%s", d.User, d.Password, d.Addr()) }

// Open returns a pool of connections to a database as the administrator. It
// goes through the Unix socket where there is one, so it also works on servers
// that require TLS.
func (d *Database) Open(name string) *sql.DB {
	at := driver.Connector{Addr: d.Addr(), User: d.User, Password: d.Password, DB: name, Params: url.Values{"collation": {collation}}}
	if d.Socket != "" {
		at.Addr = d.Socket
	}
	return sql.OpenDB(at)
}

// Exec runs statements one after the other as the administrator.
func (d *Database) Exec(ctx context.Context, statements ...string) error {
	db := d.Open("")
	defer func() { _ = db.Close() }()
	// One connection, so that session settings hold for what follows.
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", d.Flavor, err)
	}
	defer func() { _ = conn.Close() }()
	for _, statement := range statements {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("execute %q: %w", statement, err)
		}
	}
	return nil
}

// accounts makes the connector's account, without a trace in the binary log.
func (d *Database) accounts(ctx context.Context) error {
	grants := "SELECT, RELOAD, SHOW DATABASES, REPLICATION SLAVE, REPLICATION CLIENT"
	if d.Flavor == FlavorMariaDB {
		grants += ", SLAVE MONITOR"
	}
	at := fmt.Sprintf("'%s'@'%%'", ConnectorUser)
	return d.Exec(ctx, "SET SESSION sql_log_bin = 0",
		"CREATE USER IF NOT EXISTS "+at+" IDENTIFIED BY '"+ConnectorPassword+"'",
		"GRANT "+grants+" ON *.* TO "+at)
}

// ping reports whether the server answers its administrator.
func (d *Database) ping(ctx context.Context) error {
	// The client's reads know no context, so the connection gets a deadline.
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return conn, conn.SetDeadline(time.Now().Add(10 * time.Second))
	}
	network := "tcp"
	if d.Socket != "" {
		network = "unix"
	}
	conn, err := client.ConnectWithDialer(ctx, network, nonEmpty(d.Socket, d.Addr()), d.User, d.Password, "", dial)
	if err != nil {
		return err
	}
	return errors.Join(conn.Ping(), conn.Close())
}

// launch starts a database whose data folder template holds, with words that
// run the server and its settings.
func (d *Database) launch(ctx context.Context, o DatabaseOptions, template string, words func() ([]string, error)) error {
	port, err := d.port(o.Port)
	if err != nil {
		return err
	}
	d.Host, d.Port, d.Socket = host, port, filepath.Join(d.Dir, "s.sock")
	// sockaddr_un holds 108 bytes; a longer path would be cut in silence.
	if len(d.Socket) > 100 {
		return fmt.Errorf("the folder %s is too long a name for a Unix socket\n  fix: set TMPDIR to a shorter one", d.Dir)
	}
	if !isDir(d.data()) {
		if err := os.CopyFS(d.data(), os.DirFS(template)); err != nil {
			return fmt.Errorf("copy the empty database: %w", err)
		}
	}
	d.argv, err = words()
	if err != nil {
		return err
	}
	// A tmpdir of its own: a MariaDB that starts clears it of what looks like a
	// temporary table, were it another server's.
	d.argv = append(d.argv, "--datadir="+d.data(), "--socket="+d.Socket, "--bind-address="+host,
		"--port="+strconv.Itoa(port), "--pid-file="+filepath.Join(d.Dir, "server.pid"), "--tmpdir="+d.Dir, "--secure-file-priv=",
		"--skip-name-resolve=ON", "--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-image=FULL",
		"--binlog-row-metadata=FULL", "--sync-binlog=1", "--max-allowed-packet=256M")
	if o.TLS != nil {
		d.argv = append(d.argv, "--ssl-ca="+o.TLS.CAFile, "--ssl-cert="+o.TLS.CertFile, "--ssl-key="+o.TLS.KeyFile)
	}
	if o.RequireTLS {
		d.argv = append(d.argv, "--require-secure-transport=ON")
	}
	d.argv = append(d.argv, o.Args...)
	d.ready = d.ping
	if err := d.Start(ctx); err != nil {
		return err
	}
	return d.accounts(ctx)
}

func (d *Database) data() string { return filepath.Join(d.Dir, "data") }

// startDatabase makes and launches a server, and leaves nothing when it fails.
func startDatabase(ctx context.Context, flavor Flavor, o DatabaseOptions,
	prepare func(*Database) (template string, words func() ([]string, error), err error),
) (*Database, error) {
	server, err := newServer(string(flavor), o.Dir)
	if err != nil {
		return nil, err
	}
	d := &Database{Server: server, Flavor: flavor, User: "root", Password: adminPassword}
	template, words, err := prepare(d)
	if err == nil {
		err = d.launch(ctx, o, template, words)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// attachDatabase returns a server that runs elsewhere: user:password@host:port.
func attachDatabase(ctx context.Context, flavor Flavor, dsn string) (*Database, error) {
	at, err := driver.ParseDSN(strings.TrimSuffix(dsn, "/"))
	if err != nil {
		return nil, fmt.Errorf("read the address of %s: %w", flavor, err)
	}
	name, port, err := net.SplitHostPort(at.Addr)
	if err != nil {
		return nil, fmt.Errorf("read the address of %s: %w\n  fix: write it as user:password@host:port", flavor, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("read the address of %s: port %q is not a number", flavor, port)
	}
	d := &Database{Server: &Server{name: string(flavor), attached: true}, Flavor: flavor, Host: name, Port: number, User: at.User, Password: at.Password}
	if err := d.accounts(ctx); err != nil {
		return nil, err
	}
	return d, nil
}
