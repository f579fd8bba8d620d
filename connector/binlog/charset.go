package binlog

import (
	"encoding/binary"
	"unicode/utf8"

	"millrace/connector/pipeline"
)

// decodeText appends text, in a column's character set, to dst as UTF-8. It
// reports false for bytes that mean nothing in the character set: there are no
// replacement characters.
type decodeText func(dst, text []byte) ([]byte, bool)

// collationBinary is the collation of binary data.
const collationBinary = 63

// charsetOf returns how text with the given collation becomes UTF-8: nil for
// the character sets that are UTF-8 (or ASCII) already. It reports false for a
// collation that it does not know.
func charsetOf(collation uint16) (decodeText, bool) {
	name := charsetName(collation)
	switch name {
	case "":
		return nil, false
	case "utf8mb4", "utf8mb3", "ascii":
		return nil, true
	case "utf16":
		return utf16Text(2, false), true
	case "ucs2":
		return utf16Text(2, false), true
	case "utf16le":
		return utf16Text(2, true), true
	case "utf32":
		return utf32Text, true
	}
	if table, ok := singleByte[name]; ok {
		return singleByteText(table), true
	}
	return multiByte[name]().text, true
}

// collations are the ids below 1024 of each character set, as ranges, as
// INFORMATION_SCHEMA.COLLATIONS of MySQL 9.7 and MariaDB 10.11 lists them.
var collations = map[string][][2]uint16{
	"armscii8": {{32, 32}, {64, 64}},
	"ascii":    {{11, 11}, {65, 65}},
	"big5":     {{1, 1}, {84, 84}},
	"cp1250":   {{26, 26}, {34, 34}, {44, 44}, {66, 66}, {99, 99}},
	"cp1251":   {{14, 14}, {23, 23}, {50, 52}},
	"cp1256":   {{57, 57}, {67, 67}},
	"cp1257":   {{29, 29}, {58, 59}},
	"cp850":    {{4, 4}, {80, 80}},
	"cp852":    {{40, 40}, {81, 81}},
	"cp866":    {{36, 36}, {68, 68}},
	"cp932":    {{95, 96}},
	"dec8":     {{3, 3}, {69, 69}},
	"eucjpms":  {{97, 98}},
	"euckr":    {{19, 19}, {85, 85}},
	"gb18030":  {{248, 250}},
	"gb2312":   {{24, 24}, {86, 86}},
	"gbk":      {{28, 28}, {87, 87}},
	"geostd8":  {{92, 93}},
	"greek":    {{25, 25}, {70, 70}},
	"hebrew":   {{16, 16}, {71, 71}},
	"hp8":      {{6, 6}, {72, 72}},
	"keybcs2":  {{37, 37}, {73, 73}},
	"koi8r":    {{7, 7}, {74, 74}},
	"koi8u":    {{22, 22}, {75, 75}},
	"latin1":   {{5, 5}, {8, 8}, {15, 15}, {31, 31}, {47, 49}, {94, 94}},
	"latin2":   {{2, 2}, {9, 9}, {21, 21}, {27, 27}, {77, 77}},
	"latin5":   {{30, 30}, {78, 78}},
	"latin7":   {{20, 20}, {41, 42}, {79, 79}},
	"macce":    {{38, 38}, {43, 43}},
	"macroman": {{39, 39}, {53, 53}},
	"sjis":     {{13, 13}, {88, 88}},
	"swe7":     {{10, 10}, {82, 82}},
	"tis620":   {{18, 18}, {89, 89}},
	"ucs2":     {{35, 35}, {90, 90}, {128, 151}, {159, 159}, {640, 671}},
	"ujis":     {{12, 12}, {91, 91}},
	"utf16":    {{54, 55}, {101, 124}, {672, 703}},
	"utf16le":  {{56, 56}, {62, 62}},
	"utf32":    {{60, 61}, {160, 183}, {736, 767}},
	"utf8mb3":  {{33, 33}, {76, 76}, {83, 83}, {192, 215}, {223, 223}, {576, 607}},
	"utf8mb4":  {{45, 46}, {224, 247}, {255, 323}, {608, 639}},
}

// charsetName returns the character set of a collation, or "".
func charsetName(collation uint16) string {
	// MariaDB's UCA-14.0.0 collations have a block of 256 ids per character
	// set, its NOPAD ones the id of the padded one plus 1024.
	switch {
	case collation >= 2048 && collation < 2048+5*256:
		return [...]string{"utf8mb3", "utf8mb4", "ucs2", "utf16", "utf32"}[(collation-2048)/256]
	case collation >= 1024 && collation < 2048:
		collation -= 1024
	}
	for name, ranges := range collations {
		for _, r := range ranges {
			if r[0] <= collation && collation <= r[1] {
				return name
			}
		}
	}
	return ""
}

func singleByteText(table string) decodeText {
	var runes [256]rune
	base := 256 - utf8.RuneCountInString(table)
	for i := range base {
		runes[i] = rune(i)
	}
	for _, r := range table {
		runes[base] = r
		base++
	}
	return func(dst, text []byte) ([]byte, bool) {
		for _, b := range text {
			r := runes[b]
			if r == utf8.RuneError {
				return dst, false
			}
			dst = utf8.AppendRune(dst, r)
		}
		return dst, true
	}
}

func utf16Text(size int, little bool) decodeText {
	return func(dst, text []byte) ([]byte, bool) {
		if len(text)%size != 0 {
			return dst, false
		}
		unit := func(i int) rune {
			if little {
				return rune(text[i]) | rune(text[i+1])<<8
			}
			return rune(text[i])<<8 | rune(text[i+1])
		}
		for i := 0; i < len(text); i += 2 {
			r := unit(i)
			if r >= 0xd800 && r < 0xe000 {
				if r >= 0xdc00 || i+4 > len(text) {
					return dst, false
				}
				low := unit(i + 2)
				if low < 0xdc00 || low >= 0xe000 {
					return dst, false
				}
				r = (r-0xd800)<<10 | (low - 0xdc00) + 0x10000
				i += 2
			}
			dst = utf8.AppendRune(dst, r)
		}
		return dst, true
	}
}

func utf32Text(dst, text []byte) ([]byte, bool) {
	if len(text)%4 != 0 {
		return dst, false
	}
	for i := 0; i < len(text); i += 4 {
		r := rune(text[i])<<24 | rune(text[i+1])<<16 | rune(text[i+2])<<8 | rune(text[i+3])
		if !utf8.ValidRune(r) {
			return dst, false
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst, true
}

// text puts a character value into v as UTF-8: the event's own bytes where
// they are UTF-8, else converted ones in the buffer.
func (b *rowBuffer) textValue(kind pipeline.Kind, raw []byte, w *wireColumn) (pipeline.Value, bool) {
	if w.text == nil {
		return pipeline.Value{Kind: kind, Bytes: raw}, !w.utf8 || utf8.Valid(raw)
	}
	if w.ascii && isASCII(raw) {
		return pipeline.Value{Kind: kind, Bytes: raw}, true
	}
	at := len(b.text)
	var ok bool
	b.text, ok = w.text(b.text, raw)
	return pipeline.Value{Kind: kind, Bytes: b.text[at:len(b.text):len(b.text)]}, ok
}

// isASCII looks at eight bytes at a time: most text in most columns is ASCII.
func isASCII(text []byte) bool {
	for ; len(text) >= 8; text = text[8:] {
		if binary.LittleEndian.Uint64(text)&0x8080808080808080 != 0 {
			return false
		}
	}
	for _, b := range text {
		if b >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// asciiBelow reports whether the first 128 codes of a character set are ASCII
// wherever they stand alone.
func asciiBelow(name string) bool {
	switch name {
	case "ucs2", "utf16", "utf16le", "utf32":
		return false
	}
	table, single := singleByte[name]
	return !single || utf8.RuneCountInString(table) <= 128
}
