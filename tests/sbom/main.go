// Command sbom prints what is in a millrace program, as CycloneDX 1.6 in JSON:
// the Go modules that it was linked from, which Go writes into every program,
// and the C libraries inside confluent-kafka-go's archive, which it does not.
//
//	sbom [-version 1.2.3] bin/millrace > sbom.cdx.json
//
// The same program gives the same text. It runs in the module that the program
// was built from, whose archive says which C libraries came along.
package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("sbom", flag.ContinueOnError)
	version := flags.String("version", "dev", "the program's version")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: sbom [-version 1.2.3] program")
	}
	program, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("read the program: %w", err)
	}
	info, err := buildinfo.ReadFile(flags.Arg(0))
	if err != nil {
		return fmt.Errorf("read which modules the program has: %w", err)
	}
	native, err := nativeLibraries(ctx, program, info)
	if err != nil {
		return err
	}
	encoder := cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true)
	if err := encoder.EncodeVersion(document(*version, program, info, native), cdx.SpecVersion1_6); err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	return nil
}

// document puts all components together. It holds no time and no random
// number.
func document(version string, program []byte, info *debug.BuildInfo, native []cdx.Component) *cdx.BOM {
	hash := sha256.Sum256(program)
	self := cdx.Component{
		BOMRef: "millrace", Type: cdx.ComponentTypeApplication, Name: "millrace", Version: version,
		Licenses: license("Apache-2.0"),
		Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(hash[:])}},
		Properties: &[]cdx.Property{
			{Name: "millrace:platform", Value: setting(info, "GOOS") + "/" + setting(info, "GOARCH")},
		},
	}
	components := []cdx.Component{module("stdlib", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		components = append(components, module(m.Path, m.Version))
	}
	components = append(components, native...)
	slices.SortFunc(components, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	var refs []string
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &self}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: self.BOMRef, Dependencies: &refs}}
	return bom
}

// module is a Go module by its package URL (purl-spec, types/golang).
func module(path, version string) cdx.Component {
	purl := "pkg:golang/" + path + "@" + version
	return cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl}
}

func license(id string) *cdx.Licenses {
	return &cdx.Licenses{{License: &cdx.License{ID: id}}}
}

// setting returns how the program was built, such as its GOARCH.
func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}
