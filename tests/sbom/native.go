package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// clientModule is the module whose archive holds librdkafka and what that
// needs.
const clientModule = "github.com/confluentinc/confluent-kafka-go/v2"

// native is a C library in the archive and where its version stands.
type native struct {
	name, license string
	// member is the archive's member, and version a pattern in it whose group
	// is the version.
	member  string
	version *regexp.Regexp
	// dropped says that the linker leaves the text with the version out,
	// because nothing asks for it.
	dropped bool
}

var natives = []native{
	{name: "openssl", license: "Apache-2.0", member: "libcrypto-lib-cversion.o", version: regexp.MustCompile(`OpenSSL (\d+\.\d+\.\d+) \d`)},
	{name: "zlib", license: "Zlib", member: "deflate.o", version: regexp.MustCompile(` deflate (\d+(?:\.\d+)+) Copyright`)},
	{name: "zstd", license: "BSD-3-Clause", member: "zstd_common.o", version: regexp.MustCompile(`[^0-9.](\d+\.\d+\.\d+)\x00`)},
	{name: "lz4", license: "BSD-2-Clause", member: "lz4.o", version: regexp.MustCompile(`[^0-9.](\d+\.\d+\.\d+)\x00`)},
	{name: "curl", license: "curl", member: "libcurl_la-version.o", version: regexp.MustCompile(`libcurl/(\d+\.\d+\.\d+)`), dropped: true},
}

// nativeLibraries returns librdkafka and the libraries in its archive. A
// version that stands in the archive and not in the program is an error: then
// the program was linked from something else.
func nativeLibraries(ctx context.Context, program []byte, info *debug.BuildInfo) ([]cdx.Component, error) {
	dir, err := vendored(ctx, info)
	if err != nil {
		return nil, err
	}
	header, err := os.ReadFile(filepath.Join(dir, "rdkafka.h"))
	if err != nil {
		return nil, fmt.Errorf("read librdkafka's header: %w", err)
	}
	version, err := headerVersion(header)
	if err != nil {
		return nil, err
	}
	list := []cdx.Component{library("librdkafka", version, "BSD-2-Clause")}
	path := filepath.Join(dir, "librdkafka_glibc_linux_"+setting(info, "GOARCH")+".a")
	archive, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read librdkafka's archive: %w", err)
	}
	members, err := readArchive(archive)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for _, n := range natives {
		found := n.version.FindSubmatch(members[n.member])
		switch {
		case found == nil:
			return nil, fmt.Errorf("%s does not say the version of %s in %s", path, n.name, n.member)
		case !n.dropped && !n.in(program, found[1]):
			return nil, fmt.Errorf("the program does not hold %s %s, which is in %s", n.name, found[1], path)
		}
		list = append(list, library(n.name, string(found[1]), n.license))
	}
	return list, nil
}

// in reports whether the program holds the text that says the version.
func (n native) in(program, version []byte) bool {
	return slices.ContainsFunc(n.version.FindAllSubmatch(program, -1), func(m [][]byte) bool { return bytes.Equal(m[1], version) })
}

// library is a C library by its generic package URL (purl-spec, types/generic).
func library(name, version, id string) cdx.Component {
	purl := "pkg:generic/" + name + "@" + version
	return cdx.Component{
		BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: name, Version: version, PackageURL: purl, Licenses: license(id),
		Properties: &[]cdx.Property{{Name: "millrace:linked-from", Value: clientModule}},
	}
}

// vendored returns the folder of the archives, of the very version that the
// program was linked from.
func vendored(ctx context.Context, info *debug.BuildInfo) (string, error) {
	linked := ""
	for _, m := range info.Deps {
		if m.Path == clientModule {
			linked = m.Version
		}
	}
	if linked == "" {
		return "", fmt.Errorf("the program has no %s", clientModule)
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", clientModule).Output()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", clientModule, err)
	}
	version, dir, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if version != linked {
		return "", fmt.Errorf("the program was linked from %s %s, and here is %s", clientModule, linked, version)
	}
	return filepath.Join(dir, "kafka", "librdkafka_vendor"), nil
}

// rdVersion is librdkafka's version as four bytes: major, minor, revision, and
// ff for a release (rdkafka.h, RD_KAFKA_VERSION).
var rdVersion = regexp.MustCompile(`(?m)^#define RD_KAFKA_VERSION\s+0x([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})`)

func headerVersion(header []byte) (string, error) {
	digits := rdVersion.FindSubmatch(header)
	if digits == nil {
		return "", errors.New("rdkafka.h does not say RD_KAFKA_VERSION")
	}
	var parts [3]string
	for i := range parts {
		n, err := strconv.ParseUint(string(digits[i+1]), 16, 8)
		if err != nil {
			return "", fmt.Errorf("read RD_KAFKA_VERSION: %w", err)
		}
		parts[i] = strconv.FormatUint(n, 10)
	}
	return strings.Join(parts[:], "."), nil
}
