package binlog

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"

	"millrace/connector/pipeline"
)

// TestRefusalTexts holds testdata/refusals.golden to what is said where no
// server at hand can be brought to it. UPDATE_GOLDEN=1 writes the file anew.
func TestRefusalTexts(t *testing.T) {
	const path = "testdata/refusals.golden"
	var b strings.Builder
	say := func(name string, err error) {
		var r *pipeline.Refusal
		if !errors.As(err, &r) || r.Rule == "" || r.Exit == 0 || r.Fix == "" {
			t.Errorf("%s: no refusal, or one without a way out: %v", name, err)
			return
		}
		fmt.Fprintf(&b, "=== %s\nexit %d\n%s\n\n", name, r.Exit, err)
	}
	connectionRefusals(t, say)
	historyRefusals(t, say)
	tableRefusals(say)
	emptied := &assembler{assemblerOptions: assemblerOptions{stopOnTruncate: true, captured: func(string, string) bool { return true }}}
	say("a table that was emptied", emptied.checkEmptied(queryEvent{schema: []byte("shop"), text: []byte("TRUNCATE TABLE item")}))
	for _, c := range checkCases {
		srv := soundServer(c.flavor)
		c.change(srv)
		for _, check := range srv.checks(checkOptions(c.flavor)) {
			if check.Status != CheckOK {
				say(string(check.Status)+" "+check.Name+" "+check.Have+" on "+string(c.flavor), check.Refusal("db:3306"))
			}
		}
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("have:\n%s\nwant:\n%s", b.String(), want)
	}
}

func connectionRefusals(t *testing.T, say func(string, error)) {
	t.Helper()
	c := newConnector(connectOptions(3306, SSLRequired))
	say("a host that is not let in", c.explain(&mysql.MyError{Code: 1130, Message: "Host '10.0.0.1' is not allowed to connect"}))
	say("a privilege that is missing later", c.explain(&mysql.MyError{Code: mysql.ER_SPECIFIC_ACCESS_DENIED_ERROR, Message: "Access denied; you need (at least one of) the REPLICATION SLAVE privilege(s)"}))
	say("a password over a plain link", c.explain(errPlainPassword))
	say("a certificate of another use", c.explain(x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}))
	say("an alert", c.explain(tls.AlertError(42)))
	say("no TLS", c.explain(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}))
	opts := connectOptions(3306, SSLRequired)
	opts.TLSFiles.CA = "ca.pem"
	opts.LoadTLS = func(TLSFiles) (*tls.Config, error) { return nil, errors.New("open trust store ca.pem: wrong password") }
	broken := newConnector(opts)
	_, err := broken.tlsConfig()
	say("certificates that cannot be loaded", err)
	for _, f := range fatals {
		say("the server says "+f.text, explainFatal("Got fatal error 1236: '"+strings.ToUpper(f.text)+"'"))
	}
}

func historyRefusals(t *testing.T, say func(string, error)) {
	t.Helper()
	opts := connectOptions(3306, SSLDisabled)
	say("other tables inside of a large transaction", opts.checkPartial(&pipeline.Partial{GTID: uuidA + ":7", Rows: 5}))
	s := New(opts)
	srv := soundServer(pipeline.MySQL)
	srv.logs = []LogFile{{Name: "binlog.000001", Size: 1 << 40}}
	_, err := s.resumeFile(srv, pipeline.Position{File: "binlog.000001", Pos: 5 << 30, ServerUUID: srv.uuid})
	say("a position above 4 GiB", err)
	_, err = s.readAhead(t.Context(), groupStart{file: "binlog.000001", pos: 4})
	say("a large transaction behind a first part", err)
	st := testStream(t, rand.New(rand.NewPCG(1, 1)), nil)
	st.asm.file, st.asm.start = "binlog.000001", 4711
	for range maxStrikes {
		err = s.judge(st, errors.New("short event"))
	}
	say("an event that cannot be read", err)
}

// tableRefusals are those of table maps that do not say enough.
func tableRefusals(say func(string, error)) {
	for _, c := range []struct {
		name  string
		wire  wireColumn
		col   pipeline.Column
		then  func(o *optional, c *pipeline.Column, w *wireColumn)
		maria bool
	}{
		{name: "an unknown type", wire: wireColumn{typ: 200}, col: pipeline.Column{Name: "c", Type: pipeline.TypeUnknown}, then: func(o *optional, _ *pipeline.Column, _ *wireColumn) { _ = o.finish() }},
		{name: "an ENUM without labels", wire: wireColumn{typ: wireEnum}, col: pipeline.Column{Name: "c", Type: pipeline.TypeEnum}},
		{name: "a number without a sign", wire: wireColumn{typ: wireLong}, col: pipeline.Column{Name: "c", Type: pipeline.TypeInt}},
		{name: "a text without a character set", wire: wireColumn{typ: wireVarchar}, col: pipeline.Column{Name: "c", Type: pipeline.TypeVarChar}},
		{name: "an unknown collation", wire: wireColumn{typ: wireVarchar}, col: pipeline.Column{Name: "c", Type: pipeline.TypeVarChar, Collation: 9999}},
		{name: "labels of an unknown collation", col: pipeline.Column{Name: "c", Type: pipeline.TypeEnum, Collation: 9999}, then: func(o *optional, c *pipeline.Column, _ *wireColumn) { o.label(c, [][]byte{{'a'}}) }},
		{name: "a label that is no text", col: pipeline.Column{Name: "c", Type: pipeline.TypeEnum, Collation: 13}, then: func(o *optional, c *pipeline.Column, _ *wireColumn) { o.label(c, [][]byte{{0x80}}) }},
		{name: "a label that is no UTF-8", col: pipeline.Column{Name: "c", Type: pipeline.TypeEnum}, then: func(o *optional, c *pipeline.Column, _ *wireColumn) { o.label(c, [][]byte{{0xff}}) }},
		{name: "an old temporal type", maria: true, wire: wireColumn{typ: wireDateTime}, col: pipeline.Column{Name: "c", Type: pipeline.TypeDateTime}, then: func(o *optional, c *pipeline.Column, w *wireColumn) { o.oldTemporal(c, w, nil) }},
		{name: "bytes or a UUID", maria: true, col: pipeline.Column{Name: "c", Type: pipeline.TypeBinary, Length: 16}, then: func(o *optional, c *pipeline.Column, _ *wireColumn) { o.ambiguous(c, nil) }},
		{name: "no names", then: func(o *optional, _ *pipeline.Column, _ *wireColumn) { o.unnamed() }},
	} {
		table := &pipeline.Table{Schema: "shop", Name: "outbox", Columns: []pipeline.Column{c.col}}
		o := &optional{table: table, shape: &shape{table: table, wire: []wireColumn{c.wire}}, opts: decoderOptions{flavor: pipeline.MySQL}}
		if c.maria {
			o.opts.flavor = pipeline.MariaDB
			o.opts.declared = func(string, string) ([]pipeline.Column, error) { return nil, nil }
		}
		if c.then == nil {
			c.then = func(o *optional, c *pipeline.Column, w *wireColumn) { o.column(c, w, nil, nil) }
		}
		c.then(o, &table.Columns[0], &o.shape.wire[0])
		say(c.name, o.shape.problem)
	}
	say("a value that is no text", columnError(&pipeline.Table{Schema: "shop", Name: "outbox", Columns: []pipeline.Column{{Name: "c", Collation: 45}}}, 0, errBadText))
}
