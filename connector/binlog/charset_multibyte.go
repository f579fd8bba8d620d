package binlog

import (
	"bytes"
	"compress/flate"
	"embed"
	"encoding/binary"
	"io"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/transform"
)

// multiByteTables holds the double-byte character sets as a server maps them:
// the libraries' tables follow the browsers, which differ in hundreds of
// characters and take codes that the servers refuse. One file per character
// set, deflated: 128 rows (lead byte less 0x80) of 256 little-endian UTF-16
// units (trail byte), 0 for a code that means nothing, each stored as the
// difference to the one before it that is not 0; behind it the same again for
// the codes of three bytes, where there are any. TestCharsets, run against a
// server with -update, writes them.
//
//go:embed charsets
var multiByteTables embed.FS

// rowsOfTable is the number of lead bytes, tableSize of codes in a table.
const (
	rowsOfTable = 128
	tableSize   = rowsOfTable * 256
)

// multiByteSet is a character set of one to four bytes, the first 128 of which
// are ASCII.
type multiByteSet struct {
	// kana: the bytes A1 to DF are half-width katakana by themselves.
	kana bool
	// four reads the codes of four bytes, which have a digit in the second
	// place; nil where there are none. It keeps no state.
	four transform.Transformer
	two  []uint16
	// three maps what follows the byte 8F; nil where there is no such code.
	three []uint16
}

// multiByte inflates the table of a character set when it is first met.
var multiByte = map[string]func() *multiByteSet{
	"big5":    lazySet("big5"),
	"cp932":   lazySet("cp932"),
	"eucjpms": lazySet("eucjpms"),
	"euckr":   lazySet("euckr"),
	"gb18030": lazySet("gb18030"),
	"gb2312":  lazySet("gb2312"),
	"gbk":     lazySet("gbk"),
	"sjis":    lazySet("sjis"),
	"ujis":    lazySet("ujis"),
}

func lazySet(name string) func() *multiByteSet {
	return sync.OnceValue(func() *multiByteSet {
		set := &multiByteSet{kana: name == "sjis" || name == "cp932"}
		if name == "gb18030" {
			set.four = simplifiedchinese.GB18030.NewDecoder().Transformer
		}
		packed, err := multiByteTables.ReadFile("charsets/" + name)
		if err != nil {
			panic("character set " + name + " is not built in: " + err.Error())
		}
		raw, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
		if err != nil || len(raw) != 2*tableSize && len(raw) != 4*tableSize {
			panic("character set " + name + " is damaged")
		}
		set.two = unpackTable(raw[:2*tableSize])
		if len(raw) > 2*tableSize {
			set.three = unpackTable(raw[2*tableSize:])
		}
		return set
	})
}

func unpackTable(raw []byte) []uint16 {
	table := make([]uint16, tableSize)
	last := uint16(0)
	for i := range table {
		if diff := binary.LittleEndian.Uint16(raw[2*i:]); diff != 0 {
			last += diff
			table[i] = last
		}
	}
	return table
}

// text is the set's decodeText.
func (m *multiByteSet) text(dst, text []byte) ([]byte, bool) {
	for i := 0; i < len(text); {
		lead := text[i]
		var u uint16
		switch rest := text[i+1:]; {
		case lead < 0x80:
			dst = append(dst, lead)
			i++
			continue
		case m.kana && lead >= 0xa1 && lead <= 0xdf:
			u = 0xff61 + uint16(lead-0xa1)
			i++
		case m.four != nil && len(rest) >= 3 && rest[0] >= '0' && rest[0] <= '9':
			var ok bool
			if dst, ok = m.fourBytes(dst, text[i:i+4]); !ok {
				return dst, false
			}
			i += 4
			continue
		case m.three != nil && lead == 0x8f && len(rest) >= 2 && rest[0] >= 0x80:
			u = m.three[int(rest[0]&0x7f)<<8|int(rest[1])]
			i += 3
		case len(rest) >= 1:
			u = m.two[int(lead&0x7f)<<8|int(rest[0])]
			i += 2
		}
		if u == 0 {
			return dst, false
		}
		dst = utf8.AppendRune(dst, rune(u))
	}
	return dst, true
}

// fourBytes appends a code of four bytes of GB18030. The servers keep to the
// edition of 2000 in the one place where that of 2005 differs.
func (m *multiByteSet) fourBytes(dst, code []byte) ([]byte, bool) {
	if string(code) == "\x81\x35\xf4\x37" {
		return utf8.AppendRune(dst, 0xe7c7), true
	}
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	n, _, err := m.four.Transform(dst[at:], code, true)
	dst = dst[:at+n]
	return dst, err == nil && n > 0 && string(dst[at:]) != string(utf8.RuneError)
}
