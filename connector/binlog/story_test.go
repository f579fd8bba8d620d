package binlog

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/connector/pipeline"
)

// Read the difference before you commit what -rewrite has written.
var rewrite = flag.Bool("rewrite", false, "rewrite the results in testdata/stories")

// TestStories tells logs to the assembler. A story is a text file: events, a
// dashed line, what comes of them; then the next chapter, which goes on with
// the same assembler unless it begins with "new".
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(text))
			if got == string(text) {
				return
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("the story ends differently:\n%s", difference(string(text), got))
		})
	}
}

// difference shows the first line that differs, with the lines around it.
func difference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i < len(w) && i < len(g) && w[i] == g[i] {
			continue
		}
		return fmt.Sprintf("line %d\n--- want\n%s\n--- have\n%s", i+1,
			strings.Join(w[min(i, len(w)):min(i+8, len(w))], "\n"), strings.Join(g[min(i, len(g)):min(i+8, len(g))], "\n"))
	}
	return ""
}

const dashes = "----"

// tell runs a story and returns it with its results as they are.
func tell(t *testing.T, text string) string {
	var out strings.Builder
	var s *teller
	for chapter := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		events, _, _ := strings.Cut(chapter, dashes+"\n")
		out.WriteString(strings.TrimRight(events, "\n") + "\n")
		if strings.HasPrefix(strings.TrimSpace(events), "#") && strings.Count(strings.TrimSpace(events), "\n") == strings.Count(strings.TrimSpace(events), "\n#") {
			continue // a chapter of comments
		}
		out.WriteString(dashes + "\n")
		if s == nil || strings.HasPrefix(events, "new") {
			s = &teller{t: t}
		}
		out.WriteString(s.chapter(events))
	}
	return out.String()
}

// teller tells one story.
type teller struct {
	t    *testing.T
	log  *logWriter
	asm  *assembler
	out  strings.Builder
	logs bytes.Buffer
	past [][]byte // all events so far
	// taken is shown every segment; may be nil.
	taken func(*pipeline.Segment)
}

// chapter writes the chapter's events, then gives them to the assembler.
func (s *teller) chapter(text string) string {
	s.out.Reset()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			s.command(strings.Fields(line), line)
		}
	}
	events := s.log.events
	s.log.events = nil
	s.past = append(s.past, events...)
	for _, raw := range events {
		if !s.feed(raw, events) {
			return s.out.String()
		}
	}
	if !s.asm.group.open {
		s.show(s.asm.buf)
		s.asm.buf.empty()
	}
	p := s.asm.position()
	fmt.Fprintf(&s.out, "at %s", p)
	if p.Last != nil {
		fmt.Fprintf(&s.out, ", last %s rows %d", p.Last.GTID, p.Last.Rows)
		if p.Last.PrevGTID != "" {
			fmt.Fprintf(&s.out, " after %s", p.Last.PrevGTID)
		}
	}
	for _, x := range p.XA {
		fmt.Fprintf(&s.out, ", prepared %s at %s rows %d", x.XID, x.GTID, x.Rows)
	}
	if s.asm.group.open {
		s.out.WriteString(", inside of a transaction")
	}
	s.out.WriteString("\n")
	s.out.WriteString(s.logs.String())
	s.logs.Reset()
	return s.out.String()
}

// feed gives one event to the assembler and does what it asks for; all are the
// chapter's events, in which it is read ahead.
func (s *teller) feed(raw []byte, all [][]byte) bool {
	next, err := s.asm.event(raw)
	for err == nil && (next == stepProve || next == stepPart || next == stepFetch) {
		if next == stepFetch {
			next, err = s.fetch()
			continue
		}
		if next == stepProve {
			var p *proof
			if p, err = s.prove(all); err != nil {
				err = s.asm.locate(err)
				continue
			}
			how := "committed " + strconv.FormatBool(p.committed)
			if p.prepared {
				how = "prepared"
			}
			fmt.Fprintf(&s.out, "read ahead: %s, gone %v\n", how, p.gone)
			next, err = s.asm.proven(p)
			continue
		}
		full := s.asm.swap(&segmentBuffer{first: true, last: true})
		s.show(full)
		next, err = s.asm.resume()
	}
	if err != nil {
		var r *pipeline.Refusal
		kind := "error"
		if errors.As(err, &r) {
			kind = "refusal " + strconv.Itoa(r.Exit)
		}
		fmt.Fprintf(&s.out, "%s: %s\n", kind, err)
		return false
	}
	return true
}

// fetch does what a second connection does: it looks for a prepared group in
// all that was logged.
func (s *teller) fetch() (step, error) {
	s.show(s.asm.swap(&segmentBuffer{first: true, last: true}))
	want := *s.asm.group.fetch
	fmt.Fprintf(&s.out, "read again: %s\n", want.gtid)
	opts := s.asm.assemblerOptions
	opts.xaMode = xaInline
	opts.foreign = func(g pipeline.GTID) bool { return g != want.gtid }
	asm, err := newAssembler(opts, pipeline.Position{File: "binlog.000001", Pos: 4}, nil)
	if err != nil {
		return stepMore, err
	}
	r := &xaReader{
		asm: asm, want: want,
		give: func(rows *segmentBuffer, last bool) (*segmentBuffer, error) {
			empty := s.asm.adopt(rows, last)
			if !last {
				s.show(s.asm.swap(&segmentBuffer{first: true, last: true}))
			}
			return empty, nil
		},
		prove: func(groupStart) (*proof, error) { return proveIn(asm, s.past) },
	}
	for _, raw := range s.past {
		if err := r.event(raw); errors.Is(err, errScouted) {
			return s.asm.fetched()
		} else if err != nil {
			return stepMore, err
		}
	}
	return stepMore, errors.New("the story does not tell of the prepared group")
}

// prove does what a second connection does: it reads the group from its start.
func (s *teller) prove(all [][]byte) (*proof, error) { return proveIn(s.asm, all) }

func proveIn(asm *assembler, all [][]byte) (*proof, error) {
	scout := newScout(asm.captured)
	begun := false
	for _, raw := range all {
		h, body, err := asm.frame.cut(raw)
		if err != nil {
			return nil, err
		}
		if !begun {
			begun = bytes.Equal(body, asm.group.first)
			continue
		}
		if err := scout.event(h.kind, body); err != nil {
			return nil, err
		}
		if scout.done {
			return &scout.proof, nil
		}
	}
	return nil, errors.New("the story does not say how the transaction ends")
}

// show prints a segment.
func (s *teller) show(b *segmentBuffer) {
	for again := true; again; {
		var seg pipeline.Segment
		again = b.fill(&seg)
		if s.taken != nil {
			s.taken(&seg)
		}
		s.segment(&seg)
		if again {
			b.dropCut()
		}
	}
}

func (s *teller) segment(seg *pipeline.Segment) {
	if len(seg.Rows) == 0 && seg.First && seg.Last {
		return
	}
	s.out.WriteString("segment")
	if seg.First {
		s.out.WriteString(" first")
	}
	if seg.Last {
		s.out.WriteString(" last")
	}
	s.out.WriteString("\n")
	for i, tx := range seg.Txs {
		fmt.Fprintf(&s.out, "  %s at %s:%d committed %s rows %d\n", orAnonymous(tx.GTID), tx.File, tx.StartPos,
			microTime(tx.CommitTime).Format(timeLayout), tx.Rows)
		for _, row := range seg.Rows {
			if row.Tx == i {
				fmt.Fprintf(&s.out, "    %s %s %d%s%s\n", row.Op, row.Table, row.Ordinal, image(" before", row.Before), image("", row.After))
			}
		}
	}
}

func orAnonymous(g pipeline.GTID) string {
	if g.IsZero() {
		return "anonymous"
	}
	return g.String()
}

func image(label string, values []pipeline.Value) string {
	if values == nil {
		return ""
	}
	parts := make([]string, len(values))
	for i, v := range values {
		parts[i] = string(v.Bytes)
		if v.Kind == pipeline.KindInt {
			parts[i] = strconv.FormatInt(v.Int(), 10)
		}
		if len(parts[i]) > 20 {
			parts[i] = fmt.Sprintf("%s...%d", parts[i][:3], len(parts[i]))
		}
	}
	return label + " (" + strings.Join(parts, ", ") + ")"
}

// start begins a new assembler: new mysql|mariadb [option=value ...].
func (s *teller) start(args []string) {
	flavor := pipeline.Flavor(args[0])
	opts := assemblerOptions{
		flavor:   flavor,
		captured: func(schema, table string) bool { return schema == "shop" && strings.HasPrefix(table, "outbox") },
		limits:   limits{softRows: 1000, softBytes: 1 << 20, maxRows: 1000, maxBytes: 1 << 20, payload: 1 << 20},
		log:      slog.New(slog.NewTextHandler(&s.logs, &slog.HandlerOptions{ReplaceAttr: dropTime})),
		now:      func() time.Time { return time.Unix(1_700_000_100, 0).UTC() },
	}
	set := &gtidSet{flavor: flavor}
	from := pipeline.Position{Flavor: flavor, File: "binlog.000001", Pos: 4}
	s.log = newLogWriter(s.t, flavor == pipeline.MariaDB)
	adopt := false
	for _, arg := range args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		n, _ := strconv.Atoi(value)
		switch key {
		case "soft":
			opts.limits.softRows = n
		case "max":
			opts.limits.maxRows = n
		case "payload":
			opts.limits.payload = n
		case "gtids":
			set = nil
			adopt = value == "later"
		case "checksum":
			s.log.checksum = false
		case "set":
			set = mustSet(s.t, flavor, strings.ReplaceAll(strings.ReplaceAll(value, "A:", uuidA+":"), "B:", uuidB+":"))
		case "pos":
			from.Pos = uint64(n)
		case "foreign":
			opts.foreign = func(g pipeline.GTID) bool { return uuidText(g.UUID) == uuidB }
		case "xa":
			opts.xaMode = xaReject
		case "bytes":
			opts.limits.maxBytes = n
		case "bad":
			opts.onBad = warnOnBad
		default:
			s.t.Fatalf("unknown option %q", arg)
		}
	}
	asm, err := newAssembler(opts, from, set)
	if err != nil {
		s.t.Fatal(err)
	}
	asm.adoptSet = adopt
	s.asm = asm
	s.log.rotate(from.File, from.Pos, flagArtificial)
	s.log.format(0)
	if from.Pos > 4 {
		s.log.pos = from.Pos
	}
}

// restart goes on with an assembler that knows the position alone.
func (s *teller) restart() {
	asm, err := newAssembler(s.asm.assemblerOptions, s.asm.position(), s.asm.set)
	if err != nil {
		s.t.Fatal(err)
	}
	asm.frame = s.asm.frame
	s.asm = asm
}

func dropTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// command writes one event.
func (s *teller) command(f []string, line string) {
	w := s.log
	switch f[0] {
	case "new":
		s.start(f[1:])
	case "restart":
		s.restart()
	case "begin":
		w.query("shop", "BEGIN")
	case "query", "load", "packed-query":
		schema := f[1]
		text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(strings.TrimPrefix(line, f[0])), schema))
		map[string]func(string, string){"query": w.query, "load": w.loadQuery, "packed-query": w.compressedQuery}[f[0]](schema, text)
	case "xid":
		w.xid()
	case "xa-prepare":
		id := append(f, "1")[2]
		w.event(evXAPrepare, 0, []byte{map[string]byte{"one-phase": 1, "two-phase": 0}[f[1]], 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, id[0]})
	case "map":
		w.tableMap(s.number8(f[1]), f[2])
	case "write", "update", "delete":
		s.rows(f)
	case "payload":
		w.payload()
	case "end-payload":
		w.endPayload()
	case "rotate":
		w.rotate(f[1], 4, 0)
		w.rotate(f[1], 4, flagArtificial)
	case "format":
		w.format(0)
	case "event":
		flags := uint16(0)
		if len(f) > 2 && f[2] == "ignorable" {
			flags = flagIgnorable
		}
		w.event(s.number8(f[1]), flags, make([]byte, 12))
	case "jump":
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		w.pos += n
	case "zero-positions":
		w.zeroPos = f[1] == "on"
	default:
		s.groupCommand(f)
	}
}
