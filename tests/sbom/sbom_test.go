package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"millrace/tests/services"
)

// bill runs the command on the program under test and reads what it prints.
func bill(t *testing.T) (*cdx.BOM, []byte) {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-version", "1.2.3", services.Binary(t)}, &out); err != nil {
		t.Fatal(err)
	}
	text := bytes.Clone(out.Bytes())
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(&out, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	return &bom, text
}

func versions(bom *cdx.BOM) map[string]string {
	out := map[string]string{}
	for _, c := range *bom.Components {
		out[c.Name] = c.Version
	}
	return out
}

// TestNativeLibrariesAreThoseOfTheProgram compares the C libraries with what
// the program itself says, and with what stands in it.
func TestNativeLibrariesAreThoseOfTheProgram(t *testing.T) {
	bom, _ := bill(t)
	listed := versions(bom)
	out, err := exec.CommandContext(t.Context(), services.Binary(t), "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nlibrdkafka " + listed["librdkafka"] + "\n"; !strings.Contains(string(out), want) {
		t.Errorf("librdkafka %s is listed, and the program says\n%s", listed["librdkafka"], out)
	}
	program, err := os.ReadFile(services.Binary(t))
	if err != nil {
		t.Fatal(err)
	}
	inside := regexp.MustCompile(`OpenSSL (\d+\.\d+\.\d+) \d+ [A-Z][a-z]{2} 20\d\d`).FindSubmatch(program)
	if len(inside) < 2 || listed["openssl"] != string(inside[1]) {
		t.Errorf("OpenSSL %q is listed, in the program stands %q", listed["openssl"], inside)
	}
	for _, name := range []string{"zlib", "zstd", "lz4", "curl"} {
		if listed[name] == "" {
			t.Errorf("%s is not listed: %v", name, listed)
		}
	}
}

// TestModulesAreThoseOfTheProgram compares the modules with "go version -m".
func TestModulesAreThoseOfTheProgram(t *testing.T) {
	bom, _ := bill(t)
	listed := versions(bom)
	out, err := exec.CommandContext(t.Context(), "go", "version", "-m", services.Binary(t)).Output()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "dep" {
			continue
		}
		found++
		if listed[f[1]] != f[2] {
			t.Errorf("%s %s is in the program, %q is listed", f[1], f[2], listed[f[1]])
		}
	}
	if found < 20 {
		t.Errorf("go version -m names only %d modules\n%s", found, out)
	}
	if natives := len(natives) + 2; len(listed) != found+natives { // librdkafka and Go's library
		t.Errorf("%d components are listed, want %d modules and %d others", len(listed), found, natives)
	}
	for _, c := range *bom.Components {
		if c.PackageURL == "" || c.Version == "" || c.BOMRef == "" {
			t.Errorf("%+v cannot be looked up", c)
		}
	}
}

// TestSameProgramSameBill runs the command twice.
func TestSameProgramSameBill(t *testing.T) {
	bom, first := bill(t)
	_, second := bill(t)
	if !bytes.Equal(first, second) {
		t.Error("the second bill differs from the first")
	}
	if v := bom.Metadata.Component.Version; v != "1.2.3" {
		t.Errorf("the program's version is %q", v)
	}
}

// TestProgramOfSomethingElseIsRefused wants an error for a program that was
// linked from other libraries than are here.
func TestProgramOfSomethingElseIsRefused(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = run(t.Context(), []string{self}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "confluent-kafka-go") {
		t.Errorf("have %v", err)
	}
}

func TestArchive(t *testing.T) {
	header := func(name, size string) string {
		pad := func(s string, n int) string { return s + strings.Repeat(" ", n-len(s)) }
		return pad(name, 16) + pad("0", 12) + pad("0", 6) + pad("0", 6) + pad("644", 8) + pad(size, 10) + "`\n"
	}
	long := "a-name-that-is-too-long.o/\nanother-one-of-these.o/\n"
	text := archiveMagic + header("/", "4") + "\x00\x00\x00\x00" + header("//", "51") + long + "\n" +
		header("short.o/", "3") + "abc\n" + header("/0", "2") + "de" + header("/27", "1") + "f\n" + header("short.o/", "1") + "g"
	members, err := readArchive([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"short.o": "abcg", "a-name-that-is-too-long.o": "de", "another-one-of-these.o": "f"} {
		if have := string(members[name]); have != want {
			t.Errorf("%s holds %q, want %q", name, have, want)
		}
	}
	for name, broken := range map[string]string{
		"no archive": "ELF", "cut header": archiveMagic + "short.o/", "size": archiveMagic + header("x/", "99") + "a",
		"negative size": archiveMagic + header("x/", "-1"), "no long name": archiveMagic + header("/9", "0"),
	} {
		if _, err := readArchive([]byte(broken)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
