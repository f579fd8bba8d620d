package binlog

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// gtidSet is a set of transactions: for MySQL intervals per server UUID and
// tag, for MariaDB the last GTID per domain. Its text is deterministic and is
// what the servers understand. Adding the next transaction of a server
// allocates nothing.
//
// https://dev.mysql.com/doc/refman/8.4/en/replication-gtids-concepts.html
// https://mariadb.com/docs/server/ha-and-performance/standard-replication/gtid
type gtidSet struct {
	flavor  pipeline.Flavor
	sources []gtidSource    // MySQL, sorted by UUID and tag
	domains []pipeline.GTID // MariaDB, sorted by domain
}

// gtidSource holds the transactions of one UUID and tag.
type gtidSource struct {
	uuid   [16]byte
	tag    string
	ranges []gtidRange // sorted, neither overlapping nor touching
}

// gtidRange holds first to last, both included.
type gtidRange struct{ first, last uint64 }

func compareSource(s gtidSource, uuid [16]byte, tag string) int {
	return cmp.Or(bytes.Compare(s.uuid[:], uuid[:]), strings.Compare(s.tag, tag))
}

// source returns the entry of uuid and tag, made when it is missing.
func (s *gtidSet) source(uuid [16]byte, tag string) *gtidSource {
	for i := range s.sources { // few servers, so a scan beats a search
		if s.sources[i].uuid == uuid && s.sources[i].tag == tag {
			return &s.sources[i]
		}
	}
	at, _ := slices.BinarySearchFunc(s.sources, gtidSource{uuid: uuid, tag: tag}, func(a, b gtidSource) int {
		return compareSource(a, b.uuid, b.tag)
	})
	s.sources = slices.Insert(s.sources, at, gtidSource{uuid: uuid, tag: tag})
	return &s.sources[at]
}

// insert adds r and joins what then touches.
func (g *gtidSource) insert(r gtidRange) {
	// The usual case: the next number after the last.
	if n := len(g.ranges); n > 0 && g.ranges[n-1].last+1 == r.first {
		g.ranges[n-1].last = r.last
		return
	}
	// at..end are the ranges that r overlaps or touches.
	at, _ := slices.BinarySearchFunc(g.ranges, r, func(a, r gtidRange) int {
		if a.last+1 < r.first {
			return -1
		}
		return 1
	})
	end := at
	for end < len(g.ranges) && g.ranges[end].first <= r.last+1 {
		r.first, r.last = min(r.first, g.ranges[end].first), max(r.last, g.ranges[end].last)
		end++
	}
	g.ranges = slices.Replace(g.ranges, at, end, r)
}

// remove takes r out.
func (g *gtidSource) remove(r gtidRange) {
	var kept []gtidRange
	for _, have := range g.ranges {
		if have.last < r.first || have.first > r.last {
			kept = append(kept, have)
			continue
		}
		if have.first < r.first {
			kept = append(kept, gtidRange{have.first, r.first - 1})
		}
		if have.last > r.last {
			kept = append(kept, gtidRange{r.last + 1, have.last})
		}
	}
	g.ranges = kept
}

// domain returns MariaDB's last GTID of a domain.
func (s *gtidSet) domain(id uint32) (pipeline.GTID, bool) {
	for i := range s.domains {
		if s.domains[i].Domain == id {
			return s.domains[i], true
		}
	}
	return pipeline.GTID{}, false
}

// add puts g into the set; in MariaDB's case it becomes the last one of its
// domain. The zero GTID changes nothing.
func (s *gtidSet) add(g pipeline.GTID) {
	if g.IsZero() {
		return
	}
	if s.flavor != pipeline.MariaDB {
		s.source(g.UUID, g.Tag).insert(gtidRange{g.Number, g.Number})
		return
	}
	for i := range s.domains {
		if s.domains[i].Domain == g.Domain {
			s.domains[i] = g
			return
		}
	}
	at, _ := slices.BinarySearchFunc(s.domains, g.Domain, func(have pipeline.GTID, id uint32) int {
		return cmp.Compare(have.Domain, id)
	})
	s.domains = slices.Insert(s.domains, at, g)
}

// addAll puts every transaction of a MySQL set into s.
func (s *gtidSet) addAll(other *gtidSet) {
	for _, source := range other.sources {
		for _, r := range source.ranges {
			s.source(source.uuid, source.tag).insert(r)
		}
	}
}

// minus returns the transactions of a MySQL set that are not in other.
func (s *gtidSet) minus(other *gtidSet) *gtidSet {
	left := s.clone()
	for _, source := range other.sources {
		for _, r := range source.ranges {
			left.source(source.uuid, source.tag).remove(r)
		}
	}
	left.sources = slices.DeleteFunc(left.sources, func(g gtidSource) bool { return len(g.ranges) == 0 })
	return left
}

// contains reports whether a MySQL set holds every transaction of other.
func (s *gtidSet) contains(other *gtidSet) bool { return other.minus(s).empty() }

// filter returns the MySQL set of the sources that keep wants.
func (s *gtidSet) filter(keep func(uuid string) bool) *gtidSet {
	kept := &gtidSet{flavor: s.flavor}
	for _, source := range s.sources {
		if keep(uuidText(source.uuid)) {
			source.ranges = slices.Clone(source.ranges)
			kept.sources = append(kept.sources, source)
		}
	}
	return kept
}

// count returns how many transactions a MySQL set holds.
func (s *gtidSet) count() (n uint64) {
	for _, source := range s.sources {
		for _, r := range source.ranges {
			n += r.last - r.first + 1
		}
	}
	return n
}

func (s *gtidSet) empty() bool { return len(s.sources) == 0 && len(s.domains) == 0 }

func (s *gtidSet) clone() *gtidSet {
	c := &gtidSet{flavor: s.flavor, sources: slices.Clone(s.sources), domains: slices.Clone(s.domains)}
	for i := range c.sources {
		c.sources[i].ranges = slices.Clone(c.sources[i].ranges)
	}
	return c
}

// String returns the set in the server's notation, without line breaks.
func (s *gtidSet) String() string { return string(s.appendText(nil)) }

func (s *gtidSet) appendText(dst []byte) []byte {
	for i, g := range s.domains {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = g.AppendText(dst)
	}
	for i, source := range s.sources {
		switch {
		case i > 0 && s.sources[i-1].uuid == source.uuid:
		case i > 0:
			dst = append(dst, ',')
			dst = append(dst, uuidText(source.uuid)...)
		default:
			dst = append(dst, uuidText(source.uuid)...)
		}
		if source.tag != "" {
			dst = append(append(dst, ':'), source.tag...)
		}
		for _, r := range source.ranges {
			dst = strconv.AppendUint(append(dst, ':'), r.first, 10)
			if r.last > r.first {
				dst = strconv.AppendUint(append(dst, '-'), r.last, 10)
			}
		}
	}
	return dst
}

func uuidText(uuid [16]byte) string {
	text := make([]byte, 0, 36)
	for i, part := range [...][]byte{uuid[:4], uuid[4:6], uuid[6:8], uuid[8:10], uuid[10:]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return string(text)
}

// ParseGTID reads the GTID of one transaction in the server's notation; "" is
// the zero GTID.
func ParseGTID(flavor pipeline.Flavor, text string) (pipeline.GTID, error) {
	if text == "" {
		return pipeline.GTID{}, nil
	}
	return parseGTIDText(flavor, text)
}

// parseGTIDText reads the text of a single GTID.
func parseGTIDText(flavor pipeline.Flavor, text string) (pipeline.GTID, error) {
	if flavor == pipeline.MariaDB {
		return parseMariaGTIDText(text)
	}
	set, err := parseGTIDSet(flavor, text)
	if err != nil {
		return pipeline.GTID{}, err
	}
	if set.count() != 1 {
		return pipeline.GTID{}, fmt.Errorf("%q is not a single GTID", text)
	}
	only := set.sources[0]
	return pipeline.GTID{Flavor: flavor, UUID: only.uuid, Tag: only.tag, Number: only.ranges[0].first}, nil
}
