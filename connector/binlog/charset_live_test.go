//go:build live

package binlog

import (
	"bytes"
	"compress/flate"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"millrace/connector/pipeline"
)

var update = flag.Bool("update", false, "write what the servers give into the test data")

// TestCharsets asks a server for the character of every code of one, two and,
// where there are such, three bytes in each of its character sets, and for a
// sample of GB18030's codes of four, and expects the decoder to give the same:
// the same character, or a refusal where the server has none.
func TestCharsets(t *testing.T) {
	eachServer(t, func(l *live) {
		l.exec("SET sql_mode = ''", "SET NAMES utf8mb4", fmt.Sprintf("CREATE TABLE %s.codes (c VARBINARY(4))", l.schema))
		codes := everyCode()
		for len(codes) > 0 {
			n := min(len(codes), 5000)
			l.exec(fmt.Sprintf("INSERT INTO %s.codes VALUES (x'%s')", l.schema, strings.Join(codes[:n], "'),(x'")))
			codes = codes[n:]
		}
		for _, name := range l.column("SELECT character_set_name FROM information_schema.character_sets") {
			if collations[name] == nil && !strings.HasPrefix(name, "utf8") && name != "binary" && name != "filename" {
				t.Errorf("the character set %s is not known", name)
			}
		}
		l.collations()
		for name := range collations {
			if name == "gb18030" && l.flavor == pipeline.MariaDB {
				continue
			}
			if !strings.HasPrefix(name, "utf") && name != "ucs2" {
				l.charset(name)
			}
		}
	})
}

// everyCode returns codes in hexadecimal.
func everyCode() []string {
	var codes []string
	add := func(code ...byte) { codes = append(codes, hex.EncodeToString(code)) }
	for i := range 256 {
		add(byte(i))
	}
	for lead := 0x80; lead < 0x100; lead++ {
		for trail := 0x30; trail < 0x100; trail++ {
			add(byte(lead), byte(trail))
		}
	}
	for lead := 0xa0; lead < 0x100; lead++ {
		for trail := 0xa0; trail < 0x100; trail++ {
			add(0x8f, byte(lead), byte(trail))
		}
	}
	for a := 0x81; a <= 0xfe; a++ {
		for b := 0x30; b <= 0x39; b++ {
			if a > 0x84 && (a*10+b)%29 != 0 {
				continue
			}
			for c := 0x81; c <= 0xfe; c++ {
				for d := 0x30; d <= 0x39; d++ {
					add(byte(a), byte(b), byte(c), byte(d))
				}
			}
		}
	}
	return codes
}

// collations compares the character set of every collation.
func (l *live) collations() {
	for _, row := range l.column("SELECT CONCAT(id, ' ', character_set_name) FROM information_schema.collations WHERE id IS NOT NULL") {
		var id uint16
		var name string
		if _, err := fmt.Sscan(row, &id, &name); err != nil {
			l.t.Fatal(err)
		}
		if got := charsetName(id); got != name && name != "binary" {
			l.t.Errorf("collation %d is taken for %q, the server says %q", id, got, name)
		}
	}
}

// column returns the first column of a result.
func (l *live) column(sql string) []string {
	r, err := l.admin.Execute(sql)
	if err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
	defer r.Close()
	var list []string
	for i := range r.RowNumber() {
		text, _ := r.GetString(i, 0)
		list = append(list, strings.Clone(text))
	}
	return list
}

// charset compares every code of one character set.
func (l *live) charset(name string) {
	longest := 1
	if multiByte[name] != nil {
		longest = 4
	}
	// A code that the server keeps and turns into one character is valid.
	rows := l.column(fmt.Sprintf("SELECT CONCAT_WS(' ', HEX(c), COALESCE(HEX(CONVERT(c USING %[1]s)), '-'), COALESCE(HEX(CONVERT(CONVERT(c USING %[1]s) USING utf8mb4)), '-')) FROM %[2]s.codes WHERE LENGTH(c) <= %[3]d", name, l.schema, longest))
	want := map[string]string{}
	for _, row := range rows {
		part := strings.Split(row+"  ", " ")
		raw, _ := hex.DecodeString(part[0])
		char, _ := hex.DecodeString(part[2])
		r, size := utf8.DecodeRune(char)
		if part[1] == part[0] && size == len(char) && size > 0 && r != utf8.RuneError && (r != '?' || string(raw) == "?") {
			want[string(raw)] = string(char)
		} else {
			want[string(raw)] = ""
		}
	}
	if *update && l.flavor == pipeline.MySQL && multiByte[name] != nil {
		l.write(name, want)
		return
	}
	decode, ok := charsetOf(collations[name][0][0])
	if !ok {
		l.t.Fatalf("no decoder for %s", name)
	}
	wrong, valid := 0, 0
	for raw, char := range want {
		got, good := []byte(raw), utf8.ValidString(raw)
		if decode != nil {
			got, good = decode(nil, []byte(raw))
		}
		if utf8.RuneCount(got) != 1 {
			good = false // two codes
		}
		if char != "" {
			valid++
		}
		if good != (char != "") || good && string(got) != char {
			if wrong++; wrong < 10 {
				l.t.Errorf("%s %x: have %q (%v), the server has %q", name, raw, got, good, char)
			}
		}
	}
	if wrong > 0 || valid < 100 {
		l.t.Errorf("%s: %d of %d codes differ, %d are valid", name, wrong, len(want), valid)
	}
}

// write packs a table as multiByteTables describes it.
func (l *live) write(name string, want map[string]string) {
	var packed bytes.Buffer
	for size := 2; size <= 3; size++ {
		table := make([]uint16, tableSize)
		found := false
		for raw, char := range want {
			if len(raw) != size || char == "" || size == 3 && raw[0] != 0x8f {
				continue
			}
			r, _ := utf8.DecodeRuneInString(char)
			if r > 0xffff {
				l.t.Fatalf("%s %x is beyond the plane: %q", name, raw, char)
			}
			table[int(raw[size-2]&0x7f)<<8|int(raw[size-1])] = uint16(r)
			found = true
		}
		last := uint16(0)
		for _, u := range table {
			diff := uint16(0)
			if u != 0 {
				diff, last = u-last, u
			}
			packed.Write([]byte{byte(diff), byte(diff >> 8)})
		}
		if !found {
			packed.Truncate(packed.Len() - 2*tableSize)
		}
	}
	var file bytes.Buffer
	w, err := flate.NewWriter(&file, flate.BestCompression)
	if err != nil {
		l.t.Fatal(err)
	}
	_, _ = w.Write(packed.Bytes())
	_ = w.Close()
	if err := os.WriteFile(filepath.Join("charsets", name), file.Bytes(), 0o644); err != nil { //nolint:gosec // a file of the repository
		l.t.Fatal(err)
	}
}
