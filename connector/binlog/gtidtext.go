package binlog

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// parseGTIDSet reads the server's notation of a set; white space and empty
// items are allowed, as MySQL itself prints line breaks.
func parseGTIDSet(flavor pipeline.Flavor, text string) (*gtidSet, error) {
	s := &gtidSet{flavor: flavor}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		var err error
		if flavor == pipeline.MariaDB {
			err = s.parseDomain(item)
		} else {
			err = s.parseSource(item)
		}
		if err != nil {
			return nil, fmt.Errorf("read GTID set at %q: %w", item, err)
		}
	}
	return s, nil
}

func (s *gtidSet) parseDomain(item string) error {
	g, err := parseMariaGTIDText(item)
	if err != nil {
		return err
	}
	if last, ok := s.domain(g.Domain); ok {
		return fmt.Errorf("domain %d stands twice, also as %s", g.Domain, last)
	}
	s.add(g)
	return nil
}

// parseMariaGTIDText reads domain-server-number.
func parseMariaGTIDText(item string) (pipeline.GTID, error) {
	parts := strings.Split(item, "-")
	if len(parts) != 3 {
		return pipeline.GTID{}, fmt.Errorf("want domain-server-number")
	}
	domain, err := strconv.ParseUint(parts[0], 10, 32)
	if err != nil {
		return pipeline.GTID{}, err
	}
	server, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return pipeline.GTID{}, err
	}
	number, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil {
		return pipeline.GTID{}, err
	}
	return pipeline.GTID{
		Flavor: pipeline.MariaDB, Domain: uint32(domain), Server: uint32(server), Number: number,
	}, nil
}

func (s *gtidSet) parseSource(item string) error {
	parts := strings.Split(item, ":")
	uuid, err := parseUUID(parts[0])
	if err != nil {
		return err
	}
	if len(parts) < 2 {
		return fmt.Errorf("want uuid:interval")
	}
	tag, ranges := "", 0
	for _, part := range parts[1:] {
		part = strings.TrimSpace(part)
		if part == "" {
			return fmt.Errorf("empty interval")
		}
		if c := part[0]; c < '0' || c > '9' {
			if !isTag(part) {
				return fmt.Errorf("%q is neither interval nor tag", part)
			}
			tag = strings.ToLower(part)
			continue
		}
		r, err := parseRange(part)
		if err != nil {
			return err
		}
		s.source(uuid, tag).insert(r)
		ranges++
	}
	if ranges == 0 {
		return fmt.Errorf("no interval")
	}
	return nil
}

// isTag reports whether s may be a GTID tag: a letter or underscore, then up
// to 31 letters, digits or underscores.
func isTag(s string) bool {
	if len(s) > 32 {
		return false
	}
	for _, c := range []byte(s) {
		if c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

func parseRange(text string) (gtidRange, error) {
	from, to, both := strings.Cut(text, "-")
	first, err := strconv.ParseUint(strings.TrimSpace(from), 10, 63)
	if err != nil {
		return gtidRange{}, err
	}
	last := first
	if both {
		if last, err = strconv.ParseUint(strings.TrimSpace(to), 10, 63); err != nil {
			return gtidRange{}, err
		}
	}
	if first == 0 || last < first {
		return gtidRange{}, fmt.Errorf("bad interval %q", text)
	}
	return gtidRange{first, last}, nil
}

// parseUUID reads a UUID with or without dashes.
func parseUUID(text string) (uuid [16]byte, err error) {
	plain := strings.ReplaceAll(strings.TrimSpace(text), "-", "")
	if len(plain) != 32 {
		return uuid, fmt.Errorf("bad UUID %q", text)
	}
	if _, err = hex.Decode(uuid[:], []byte(plain)); err != nil {
		return uuid, fmt.Errorf("bad UUID %q", text)
	}
	return uuid, nil
}
