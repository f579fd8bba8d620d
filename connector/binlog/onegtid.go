package binlog

import (
	"fmt"

	"millrace/connector/pipeline"
)

// ParseGTID reads the GTID of one transaction in the server's notation; "" is
// the zero GTID.
func ParseGTID(flavor pipeline.Flavor, text string) (pipeline.GTID, error) {
	if text == "" {
		return pipeline.GTID{}, nil
	}
	set, err := parseGTIDSet(flavor, text)
	if err != nil {
		return pipeline.GTID{}, err
	}
	one, ok := set.alone()
	if !ok {
		return one, fmt.Errorf("%s is not the GTID of one transaction", text)
	}
	return one, nil
}

// alone returns the one GTID of s.
func (s *gtidSet) alone() (pipeline.GTID, bool) {
	if s.flavor == pipeline.MariaDB {
		if len(s.domains) != 1 {
			return pipeline.GTID{}, false
		}
		return s.domains[0], true
	}
	if s.count() != 1 {
		return pipeline.GTID{}, false
	}
	for i := range s.sources {
		if src := &s.sources[i]; len(src.ranges) == 1 {
			return pipeline.GTID{Flavor: s.flavor, UUID: src.uuid, Tag: src.tag, Number: src.ranges[0].first}, true
		}
	}
	return pipeline.GTID{}, false
}
