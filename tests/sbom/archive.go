package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	archiveMagic = "!<arch>\n"
	memberHeader = 60
)

// readArchive returns the members of a static library by name, in the form
// that GNU's ar writes (ar(5); GNU: long names stand in a member named "//" and
// are referred to as /offset). Members of the same name are joined.
func readArchive(text []byte) (map[string][]byte, error) {
	rest, ok := bytes.CutPrefix(text, []byte(archiveMagic))
	if !ok {
		return nil, errors.New("it is no archive")
	}
	members := map[string][]byte{}
	var long []byte
	for len(rest) > 0 {
		if len(rest) < memberHeader {
			return nil, errors.New("a member's header is cut")
		}
		name, digits := strings.TrimRight(string(rest[:16]), " "), strings.TrimSpace(string(rest[48:58]))
		size, err := strconv.Atoi(digits)
		if err != nil || size < 0 || size > len(rest)-memberHeader {
			return nil, fmt.Errorf("member %q has the size %q", name, digits)
		}
		data := rest[memberHeader : memberHeader+size]
		// Members begin at even places.
		rest = rest[min(memberHeader+size+size%2, len(rest)):]
		switch {
		case name == "/" || name == "/SYM64/":
			continue
		case name == "//":
			long = data
			continue
		case strings.HasPrefix(name, "/"):
			at, err := strconv.Atoi(name[1:])
			if err != nil || at < 0 || at >= len(long) {
				return nil, fmt.Errorf("member %q has no name", name)
			}
			line, _, _ := bytes.Cut(long[at:], []byte("\n"))
			name = string(line)
		}
		name = strings.TrimSuffix(name, "/")
		members[name] = append(members[name], data...)
	}
	return members, nil
}
