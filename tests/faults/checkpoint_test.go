package faults

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-mysql-org/go-mysql/mysql"

	"millrace/tests/services"
)

// The records of a checkpoint topic, as far as the checker reads them. The
// format is described in connector/kafka/checkpoint.go; tests parse the JSON
// themselves, as any outsider would.
type (
	checkpointKey struct {
		Connector string `json:"connector"`
		Kind      string `json:"kind"`
	}
	checkpoint struct {
		Txn        uint64                               `json:"txn"`
		Epoch      uint64                               `json:"epoch"`
		Count      uint64                               `json:"count"`
		GTID       string                               `json:"gtid"`
		Last       *lastTransaction                     `json:"last"`
		Table      uint64                               `json:"table"`
		Partitions map[string]map[string]partitionState `json:"partitions"`
		// table is that of the same transaction, when it has one.
		table map[string]map[string]partitionState
	}
	lastTransaction struct {
		GTID string `json:"gtid"`
		Rows int    `json:"rows"`
	}
	partitionState struct {
		N  uint64 `json:"n"`
		D  string `json:"d"`
		ID string `json:"id"`
		O  int64  `json:"o"`
	}
	primeRecord struct {
		Txn   uint64 `json:"txn"`
		First uint64 `json:"first"`
		Last  uint64 `json:"last"`
	}
)

// kindOfRecord returns the kind in a checkpoint record's key; nothing for
// foreign records.
func kindOfRecord(s seen) string {
	var k checkpointKey
	if json.Unmarshal(s.key, &k) != nil {
		return ""
	}
	return k.Kind
}

// digests are FNV-1a over key and id of each record, with lengths (the
// checkpoint's "d").
func roll(d uint64, fields ...[]byte) uint64 {
	const prime = 0x100000001b3
	for _, field := range fields {
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(field)))
		for _, b := range slices.Concat(size[:], field) {
			d = (d ^ uint64(b)) * prime
		}
	}
	return d
}

const emptyDigest = 0xcbf29ce484222325

// gtidSet knows which transactions a checkpoint covers.
type gtidSet interface{ holds(gtid string) bool }

type mysqlSet struct{ mysql.GTIDSet }

func (s mysqlSet) holds(gtid string) bool {
	one, err := mysql.ParseMysqlGTIDSet(gtid)
	return err == nil && s.Contain(one)
}

// mariaSet is the last number of each domain: the log has them in order.
type mariaSet map[string]uint64

func (s mariaSet) holds(gtid string) bool {
	domain, number, ok := mariaParts(gtid)
	return ok && number <= s[domain]
}

func mariaParts(gtid string) (domain string, number uint64, ok bool) {
	var server uint64
	var d uint64
	if _, err := fmt.Sscanf(gtid, "%d-%d-%d", &d, &server, &number); err != nil {
		return "", 0, false
	}
	return strconv.FormatUint(d, 10), number, true
}

// parseGTIDs reads a checkpoint's position.
func parseGTIDs(flavor services.Flavor, text string) (gtidSet, error) {
	if flavor == services.FlavorMySQL {
		set, err := mysql.ParseMysqlGTIDSet(text)
		return mysqlSet{set}, err
	}
	out := mariaSet{}
	for _, one := range splitComma(text) {
		domain, number, ok := mariaParts(one)
		if !ok {
			return nil, fmt.Errorf("no GTID: %q", one)
		}
		out[domain] = number
	}
	return out, nil
}

func splitComma(text string) []string {
	var out []string
	for from, i := 0, 0; i <= len(text); i++ {
		if i == len(text) || text[i] == ',' {
			if i > from {
				out = append(out, text[from:i])
			}
			from = i + 1
		}
	}
	return out
}

// includes reports whether set b is everything that a is, or more.
func includes(b, a gtidSet) bool {
	switch b := b.(type) {
	case mysqlSet:
		return b.Contain(a.(mysqlSet).GTIDSet)
	case mariaSet:
		for domain, number := range a.(mariaSet) {
			if b[domain] < number {
				return false
			}
		}
	}
	return true
}
