//go:build image

package container

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// envInspect is a file with what "buildah inspect" says of the image.
const envInspect = "IMAGE_INSPECT"

// in runs a program in the image's root and returns what it prints.
func in(t *testing.T, program string, arguments ...string) (string, error) {
	t.Helper()
	root := os.Getenv(envRoot)
	if root == "" {
		t.Fatalf("%s is not set: run make image-proof", envRoot)
	}
	out, err := runner{root: root, inside: program}.command(t, nil, arguments...).CombinedOutput()
	return string(out), err
}

// TestImageConfiguration compares what the image tells an engine.
func TestImageConfiguration(t *testing.T) {
	text, err := os.ReadFile(os.Getenv(envInspect))
	if err != nil {
		t.Fatal(err)
	}
	var image struct {
		Docker struct {
			Architecture string `json:"architecture"`
			Config       struct {
				User, StopSignal string
				Entrypoint, Cmd  []string
				Env              []string
				ExposedPorts     map[string]any
				Labels           map[string]string
				Healthcheck      struct{ Test []string }
			} `json:"config"`
		}
	}
	if err := json.Unmarshal(text, &image); err != nil {
		t.Fatal(err)
	}
	c := image.Docker.Config
	equal(t, "user", c.User, "65532:65532")
	equal(t, "stop signal", c.StopSignal, "SIGTERM")
	equalAll(t, "entrypoint", c.Entrypoint, []string{"/usr/local/bin/millrace"})
	equalAll(t, "command", c.Cmd, []string{"run", "/config/worker.properties", "/config/outbox.json"})
	equalAll(t, "health check", c.Healthcheck.Test, []string{"CMD", "/usr/local/bin/millrace", "healthcheck"})
	if _, ok := c.ExposedPorts["8083/tcp"]; !ok {
		t.Errorf("exposed ports: %v", c.ExposedPorts)
	}
	equal(t, "licence", c.Labels["org.opencontainers.image.licenses"], "Apache-2.0")
	if len(c.Env) != 1 {
		t.Errorf("environment %v, want a path", c.Env)
	}
}

// TestImageIsReadOnlyAndWithoutRights looks around in the image as its program
// does.
func TestImageIsReadOnlyAndWithoutRights(t *testing.T) {
	out, err := in(t, "/bin/sh", "-c", `id -u; id -g; grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/self/status | tr -d '\t'
		for place in / /etc /usr/local/bin /var/lib /dev /proc; do touch $place/x 2>/dev/null && echo "$place is writable"; done
		touch /tmp/x && echo "/tmp is writable"`)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "65532\n65532\nCapEff:0000000000000000\nCapBnd:0000000000000000\nNoNewPrivs:1\n/tmp is writable\n"
	equal(t, "what a program sees", out, want)
}

// TestImageHoldsWhatItsProgramNeeds lists the shared libraries of the program:
// those of the C library alone, all of them there.
func TestImageHoldsWhatItsProgramNeeds(t *testing.T) {
	out, err := in(t, "/usr/bin/ldd", "/usr/local/bin/millrace")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(out, "not found") {
		t.Error(out)
	}
	for _, m := range regexp.MustCompile(`(?m)^\s*(\S+?)\.so`).FindAllStringSubmatch(out, -1) {
		if !slices.Contains([]string{"linux-vdso", "libm", "libc", "libpthread", "libdl", "librt", "libresolv"}, m[1]) && !strings.Contains(m[1], "ld-linux") {
			t.Errorf("the program needs %s, which is not the C library's", m[1])
		}
	}
	t.Logf("\n%s", out)
}

// TestImageSaysWhatIsInIt compares the bill of materials in the image with the
// program beside it.
func TestImageSaysWhatIsInIt(t *testing.T) {
	folder := filepath.Join(os.Getenv(envRoot), "usr/share/doc/millrace")
	file, err := os.Open(filepath.Join(folder, "sbom.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(file, cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, c := range *bom.Components {
		versions[c.Name] = c.Version
	}
	out, err := in(t, "/usr/local/bin/millrace", "version")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if want := "librdkafka " + versions["librdkafka"] + "\n"; !strings.Contains(out, want) {
		t.Errorf("the program says\n%s\nthe bill %s", out, want)
	}
	program := filepath.Join(os.Getenv(envRoot), "usr/local/bin/millrace")
	if grep, err := exec.CommandContext(t.Context(), "grep", "-c", "--binary-files=text", "OpenSSL "+versions["openssl"]+" ", program).Output(); err != nil {
		t.Errorf("OpenSSL %s is not in the program: %s%v", versions["openssl"], grep, err)
	}
	equal(t, "version of the program", bom.Metadata.Component.Version, "proof")
	for _, name := range []string{"LICENSE", "librdkafka-LICENSES.txt"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Size() < 1000 {
			t.Errorf("%s: %v", name, err)
		}
	}
	t.Logf("\n%slibrdkafka %s, OpenSSL %s, %d components", out, versions["librdkafka"], versions["openssl"], len(versions))
}

// TestImageHealthCheckFailsAlone runs the health check without a program to
// ask: it must say so by its exit code.
func TestImageHealthCheckFailsAlone(t *testing.T) {
	out, err := in(t, "/usr/local/bin/millrace", "healthcheck", "--url", "http://127.0.0.1:1/healthz")
	if err == nil {
		t.Errorf("it says %s", out)
	}
}
