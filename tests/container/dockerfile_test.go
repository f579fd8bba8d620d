package container

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one of a Dockerfile, with its continued lines joined.
type instruction struct{ word, rest string }

// dockerfile returns the instructions of docker/Dockerfile by stage.
func dockerfile(t *testing.T) (stages map[string][]instruction, order []string) {
	t.Helper()
	stages, stage := map[string][]instruction{}, ""
	lines := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(read(t, "docker/Dockerfile"), "")
	scan := bufio.NewScanner(strings.NewReader(lines))
	for scan.Scan() {
		line := strings.TrimSpace(scan.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		if word == "FROM" {
			fields := strings.Fields(rest)
			stage = fields[len(fields)-1]
			order = append(order, stage)
		}
		stages[stage] = append(stages[stage], instruction{word, rest})
	}
	return stages, order
}

// TestDockerfileStages checks what people rely on who build the image.
func TestDockerfileStages(t *testing.T) {
	stages, order := dockerfile(t)
	if len(order) == 0 || order[len(order)-1] != "millrace" {
		t.Errorf("a build without --target makes the last of %v, want millrace", order)
	}
	for _, name := range []string{"millrace", "shop"} {
		has := func(word, rest string) bool {
			return slices.Contains(stages[name], instruction{word, rest})
		}
		if !has("FROM", "--platform=$TARGETPLATFORM ${BASE_IMAGE} AS "+name) {
			t.Errorf("%s is not made from BASE_IMAGE, for the architecture that is asked for", name)
		}
		if !has("USER", "65532:65532") {
			t.Errorf("%s does not run as 65532", name)
		}
		if !slices.ContainsFunc(stages[name], func(i instruction) bool {
			return i.word == "HEALTHCHECK" && strings.HasSuffix(i.rest, `CMD ["/usr/local/bin/`+name+`", "healthcheck"]`)
		}) {
			t.Errorf("%s has no health check of its own", name)
		}
		for _, i := range stages[name] {
			// What runs in the last stage would need emulation for the other architecture.
			if i.word == "RUN" || i.word == "ADD" {
				t.Errorf("%s: %s %s", name, i.word, i.rest)
			}
		}
	}
	for _, want := range []instruction{{"STOPSIGNAL", "SIGTERM"}, {"EXPOSE", "8083"}, {"ENTRYPOINT", `["/usr/local/bin/millrace"]`}} {
		if !slices.Contains(stages["millrace"], want) {
			t.Errorf("the image lacks %s %s", want.word, want.rest)
		}
	}
	if !slices.Contains(stages["source"], instruction{"FROM", "--platform=$BUILDPLATFORM ${GO_IMAGE} AS source"}) {
		t.Error("the compiler would be emulated")
	}
}

// TestDockerfileBuildsWithTheGoThatIsTested compares the Go of the image with
// the one that runs this test, and with go.mod.
func TestDockerfileBuildsWithTheGoThatIsTested(t *testing.T) {
	stages, _ := dockerfile(t)
	image := regexp.MustCompile(`^GO_IMAGE=golang:(\d+\.\d+)\.\d+-bookworm$`)
	var version string
	for _, i := range stages[""] {
		if m := image.FindStringSubmatch(i.rest); i.word == "ARG" && m != nil {
			version = m[1]
		}
	}
	if version == "" {
		t.Fatalf("no GO_IMAGE of a Go release on bookworm is named: %v", stages[""])
	}
	if mod := read(t, "go.mod"); !strings.Contains(mod, "\ngo "+version) {
		t.Errorf("the image is built with Go %s, which is not go.mod's", version)
	}
}

// TestContextHoldsNoSecretsAndNoHistory wants the build to see the sources
// alone.
func TestContextHoldsNoSecretsAndNoHistory(t *testing.T) {
	lines := strings.Split(read(t, ".dockerignore"), "\n")
	for _, want := range []string{".git", "bin"} {
		if !slices.Contains(lines, want) {
			t.Errorf(".dockerignore lets %s in", want)
		}
	}
}

// TestLibraryIsThereForBothArchitectures looks for librdkafka's archives, which
// the image's program is linked from, and for the code that links them.
func TestLibraryIsThereForBothArchitectures(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/confluentinc/confluent-kafka-go/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	kafka := filepath.Join(strings.TrimSpace(string(out)), "kafka")
	for _, arch := range []string{"amd64", "arm64"} {
		archive := "librdkafka_glibc_linux_" + arch + ".a"
		info, err := os.Stat(filepath.Join(kafka, "librdkafka_vendor", archive))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Size() < 1<<20 {
			t.Errorf("%s has only %d bytes", archive, info.Size())
		}
		link, err := os.ReadFile(filepath.Join(kafka, "build_glibc_linux_"+arch+".go"))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(link), archive) {
			t.Errorf("%s is not linked on linux/%s", archive, arch)
		}
	}
}
