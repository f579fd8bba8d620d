package services

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// prefix is a folder into which Debian packages and everything they depend on
// were unpacked, the C library included, so that its programs run on any Linux.
type prefix string

// selection says which Debian packages to unpack.
type selection struct {
	// suite is where they come from; empty for the machine's own release.
	suite string
	// packages come with everything they depend on, alone without.
	packages, alone []string
}

// unpack downloads the selected packages and unpacks them into dir. apt works
// with folders of its own, so the system's packages and lists are untouched.
func (s selection) unpack(ctx context.Context, dir string) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), "apt-")
	if err != nil {
		return fmt.Errorf("make a work folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	options, err := aptFolders(work, s.suite)
	if err != nil {
		return err
	}
	const fix = "check that the machine reaches its Debian package source (apt-get update), or give the server's address in MILLRACE_TEST_…"
	progress("  reading the package lists of Debian %s", nonEmpty(s.suite, "(this release)"))
	update := step{argv: slices.Concat([]string{"apt-get"}, options, []string{"update"}), fix: fix}
	if err := update.run(ctx); err != nil {
		return err
	}
	progress("  downloading %s and what they need", strings.Join(s.packages, " "))
	archives := filepath.Join(work, "cache/archives")
	install := step{argv: slices.Concat([]string{"apt-get"}, options,
		[]string{"install", "-y", "--download-only", "--no-install-recommends"}, s.packages), fix: fix}
	if err := install.run(ctx); err != nil {
		return err
	}
	if len(s.alone) > 0 {
		download := step{dir: archives, argv: slices.Concat([]string{"apt-get"}, options, []string{"download"}, s.alone), fix: fix}
		if err := download.run(ctx); err != nil {
			return err
		}
	}
	debs, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil || len(debs) == 0 {
		return errors.Join(errors.New("apt-get downloaded no package"), err)
	}
	progress("  unpacking %d packages", len(debs))
	for _, deb := range debs {
		extract := step{argv: []string{"dpkg-deb", "-x", deb, dir}, fix: "check the free space of " + dir}
		if err := extract.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// aptFolders lays out a private apt below work and returns the options that
// make apt-get use it. Its dpkg status is empty, so that every dependency is
// downloaded, whatever the machine has.
func aptFolders(work, suite string) ([]string, error) {
	for _, dir := range []string{"lists/partial", "cache/archives/partial", "state", "parts", "preferences", "log"} {
		if err := os.MkdirAll(filepath.Join(work, dir), 0o755); err != nil {
			return nil, fmt.Errorf("make apt's folders: %w", err)
		}
	}
	sources, err := debianSources(suite)
	if err != nil {
		return nil, err
	}
	files := map[string]string{"state/status": "", "sources.list": sources.list, "parts/debian.sources": sources.deb822}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("write apt's settings: %w", err)
		}
	}
	var options []string
	for key, value := range map[string]string{
		"Dir::Etc::sourcelist": work + "/sources.list", "Dir::Etc::sourceparts": work + "/parts",
		"Dir::Etc::preferencesparts": work + "/preferences", "Dir::Etc::preferences": "/dev/null",
		"Dir::State": work + "/state", "Dir::State::lists": work + "/lists",
		"Dir::State::status": work + "/state/status", "Dir::Cache": work + "/cache",
		"Dir::Cache::archives": work + "/cache/archives", "Dir::Log": work + "/log",
		"APT::Sandbox::User": "root", "Acquire::Languages": "none", "Acquire::Retries": "3",
	} {
		options = append(options, "-o", key+"="+value)
	}
	return options, nil
}

// aptSources is a selection of the machine's package sources in apt's two
// notations, one-line and deb822 (sources.list(5)).
type aptSources struct{ list, deb822 string }

// debianSources returns the machine's sources of its own Debian release, or
// the same sources re-aimed at another suite.
func debianSources(suite string) (aptSources, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return aptSources{}, fmt.Errorf("read the release's name: %w", err)
	}
	code := regexp.MustCompile(`(?m)^VERSION_CODENAME="?([a-z]+)`).FindSubmatch(release)
	if code == nil || !bytes.Contains(release, []byte("ID=debian")) {
		return aptSources{}, errors.New("this machine is not a Debian stable release, so there are no packages to unpack\n" +
			"  fix: start the server yourself and give its address in MILLRACE_TEST_…")
	}
	files, err := filepath.Glob("/etc/apt/sources.list.d/*")
	if err != nil {
		return aptSources{}, err
	}
	var out aptSources
	for _, file := range append(files, "/etc/apt/sources.list") {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		switch filepath.Ext(file) {
		case ".sources":
			out.deb822 += selectStanzas(string(text), string(code[1]), suite)
		case ".list":
			out.list += selectLines(string(text), string(code[1]), suite)
		}
	}
	if out == (aptSources{}) {
		return out, fmt.Errorf("no package source of Debian %s in /etc/apt\n  fix: add one, or give the server's address in MILLRACE_TEST_…", code[1])
	}
	return out, nil
}

// selectStanzas returns the deb822 stanzas that serve release, re-aimed at
// suite when it is not empty.
func selectStanzas(text, release, suite string) string {
	var out strings.Builder
	for stanza := range strings.SplitSeq(text, "\n\n") {
		var kept []string
		matches := false
		scan := bufio.NewScanner(strings.NewReader(stanza))
		for scan.Scan() {
			line := scan.Text()
			key, value, _ := strings.Cut(line, ":")
			switch {
			case strings.HasPrefix(line, "#"):
				continue
			case key == "Suites" && suite != "":
				matches = slices.Contains(strings.Fields(value), release)
				line = "Suites: " + suite
			case key == "Suites":
				matches = slices.ContainsFunc(strings.Fields(value), func(s string) bool { return ofRelease(s, release) })
			case key == "Components" && suite != "":
				line = "Components: main"
			}
			kept = append(kept, line)
		}
		if matches {
			out.WriteString(strings.Join(kept, "\n") + "\n\n")
		}
	}
	return out.String()
}

// oneLine matches a binary package source in one-line notation: what stands
// before the suite, and the suite.
var oneLine = regexp.MustCompile(`^(deb\s+(?:\[[^]]*\]\s+)?\S+)\s+(\S+)\s`)

// selectLines is selectStanzas for the one-line notation.
func selectLines(text, release, suite string) string {
	var out strings.Builder
	for line := range strings.SplitSeq(text, "\n") {
		m := oneLine.FindStringSubmatch(line)
		switch {
		case m == nil:
		case suite != "" && m[2] == release:
			out.WriteString(m[1] + " " + suite + " main\n")
		case suite == "" && ofRelease(m[2], release):
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}

func ofRelease(suite, release string) bool {
	return suite == release || suite == release+"-security" || suite == release+"-updates"
}

func nonEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// triplet names the folder of shared libraries and the dynamic loader of this
// machine's architecture, as Debian names them.
func triplet() (libs, loader string) {
	if runtime.GOARCH == "arm64" {
		return "aarch64-linux-gnu", "ld-linux-aarch64.so.1"
	}
	return "x86_64-linux-gnu", "ld-linux-x86-64.so.2"
}

// command returns the words that run program, a path below the prefix, with
// the prefix's own loader and libraries. private are further library folders,
// relative to the main one.
func (p prefix) command(program string, private ...string) ([]string, error) {
	libs, loader := triplet()
	lib := filepath.Join(string(p), "usr/lib", libs)
	paths := []string{lib, filepath.Join(string(p), "lib", libs)}
	for _, dir := range private {
		paths = append(paths, filepath.Join(lib, dir))
	}
	for _, dir := range []string{"usr/lib64", "lib64", "lib", "usr/lib", "usr/lib/" + libs, "lib/" + libs} {
		ld := filepath.Join(string(p), dir, loader)
		// Unpacked links may be absolute and then point out of the prefix.
		if info, err := os.Lstat(ld); err == nil && info.Mode().IsRegular() || isRelativeLink(ld) {
			return []string{ld, "--library-path", strings.Join(paths, ":"), filepath.Join(string(p), program)}, nil
		}
	}
	return nil, fmt.Errorf("no %s below %s\n  fix: remove that folder and run again", loader, p)
}

func isRelativeLink(path string) bool {
	target, err := os.Readlink(path)
	return err == nil && !filepath.IsAbs(target)
}
