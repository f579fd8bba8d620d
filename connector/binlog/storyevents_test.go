package binlog

import (
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// groupCommand writes the events that begin groups and files.
func (s *teller) groupCommand(f []string) {
	w := s.log
	arg := func(key string) string {
		for _, a := range f[1:] {
			if v, ok := strings.CutPrefix(a, key+"="); ok {
				return v
			}
		}
		return ""
	}
	switch f[0] {
	case "gtid", "anonymous":
		uuid := mustSet(s.t, pipeline.MySQL, uuidA+":1").sources[0].uuid
		if arg("server") == "B" {
			uuid = mustSet(s.t, pipeline.MySQL, uuidB+":1").sources[0].uuid
		}
		n := uint64(1)
		if f[0] == "gtid" {
			n, _ = strconv.ParseUint(f[1], 10, 64)
		}
		stamp := 1_700_000_000_000_000 + n*1_000_001
		switch {
		case arg("tag") != "":
			w.taggedGTID(uuid, arg("tag"), n, stamp+5, stamp)
		case f[0] == "gtid":
			w.gtid(0, uuid, n, stamp)
		default:
			w.gtid(1, uuid, n, stamp)
		}
	case "maria-gtid":
		g, err := parseMariaGTIDText(f[1])
		if err != nil {
			s.t.Fatal(err)
		}
		flags := byte(0)
		for _, a := range f[2:] {
			flags |= map[string]byte{"standalone": mariaStandalone, "prepared": 64, "completed": 128 | mariaStandalone}[a]
		}
		w.mariaGTID(g.Domain, g.Server, g.Number, flags)
	case "previous":
		w.previous(strings.ReplaceAll(f[1], "A:", uuidA+":"))
	case "list":
		w.list(mustSet(s.t, pipeline.MariaDB, f[1]))
	default:
		s.t.Fatalf("unknown command %q", f[0])
	}
}

// rows writes row events: write <table id> <id>|<first>..<last> ... [size=n].
func (s *teller) rows(f []string) {
	kinds := map[string]byte{"write": evWriteRowsV2, "update": evUpdateRowsV2, "delete": evDeleteRowsV2}
	if s.log.maria {
		kinds = map[string]byte{"write": evWriteRowsV1, "update": evUpdateRowsV1, "delete": evDeleteRowsV1}
	}
	var images []rowImage
	for _, item := range f[2:] {
		from, to, many := strings.Cut(item, "..")
		if !many {
			to = from
		}
		lo, err1 := strconv.Atoi(from)
		hi, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			s.t.Fatalf("bad row %q", item)
		}
		for n := lo; n <= hi; n++ {
			images = append(images, rowImage{uint32(n), "r" + strconv.Itoa(n)})
		}
	}
	s.log.rows(kinds[f[0]], s.number8(f[1]), images...)
}

func (s *teller) number8(text string) byte {
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil {
		s.t.Fatal(err)
	}
	return byte(n)
}
