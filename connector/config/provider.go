package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// reference is ${provider:[path:]key}, as Kafka's ConfigTransformer has it
// (KIP-297); a ${name} without a colon is none.
var reference = regexp.MustCompile(`\$\{([^}:]*?):(?:([^}]*?):)?([^}]*?)\}`)

// provider resolves references.
type provider struct {
	// kind is env, file or dir.
	kind string
	// paths are the only ones to read from, and names the only variables;
	// empty and nil allow all.
	paths []string
	names *regexp.Regexp
	env   Environment
}

// kinds are Kafka's providers by the short name of the class.
// https://kafka.apache.org/documentation/#config_providers
var kinds = map[string]string{"EnvVarConfigProvider": "env", "FileConfigProvider": "file", "DirectoryConfigProvider": "dir"}

// providersOf returns the providers that f declares in config.providers, and
// env, file and dir, which are there without being declared.
func providersOf(f *File, p *Problems) map[string]*provider {
	all := map[string]*provider{}
	for _, kind := range []string{"env", "file", "dir"} {
		all[kind] = &provider{kind: kind, env: f.env}
	}
	for name := range strings.SplitSeq(f.entries["config.providers"].Value, ",") {
		if name = strings.TrimSpace(name); name != "" {
			all[name] = f.declared(name, p)
		}
	}
	return all
}

// declared reads config.providers.<name>.*; nil when it cannot be used.
func (f *File) declared(name string, p *Problems) *provider {
	prefix := "config.providers." + name + "."
	class, set := f.entries[prefix+"class"]
	if !set {
		p.At("config.providers", f.entries["config.providers"], "names "+name+", but "+prefix+"class is not set")
		return nil
	}
	short := class.Value[strings.LastIndexByte(class.Value, '.')+1:]
	made := &provider{kind: kinds[short], env: f.env}
	if made.kind == "" {
		p.At(prefix+"class", class, class.Value+" is not supported; these are: "+
			"EnvVarConfigProvider, FileConfigProvider and DirectoryConfigProvider of org.apache.kafka.common.config.provider")
		return nil
	}
	for path := range strings.SplitSeq(f.entries[prefix+"param.allowed.paths"].Value, ",") {
		if path = strings.TrimSpace(path); path != "" {
			made.paths = append(made.paths, filepath.Clean(path))
		}
	}
	const allow = "param.allowlist.pattern"
	if pattern, set := f.entries[prefix+allow]; set {
		var err error
		if made.names, err = regexp.Compile("^(?:" + pattern.Value + ")$"); err != nil {
			p.At(prefix+allow, pattern, err.Error())
			return nil
		}
	}
	return made
}

// resolve replaces references to config providers in every value of f, once.
// As in Kafka, what a provider returns is not looked at again.
func resolve(f *File, providers map[string]*provider, p *Problems) {
	if f.resolved {
		return
	}
	f.resolved = true
	for _, key := range f.Keys() {
		e := f.entries[key]
		before := e.Value
		e.Value = reference.ReplaceAllStringFunc(before, func(ref string) string {
			m := reference.FindStringSubmatch(ref)
			from, known := providers[m[1]]
			if !known {
				p.At(key, e, "cannot resolve "+ref+": there is no config provider "+m[1]+"; env, file and dir are there always, others stand in config.providers of the worker")
			}
			if from == nil {
				return ref
			}
			value, err := from.get(m[2], m[3])
			if err != nil {
				p.At(key, e, "cannot resolve "+ref+": "+err.Error())
				return ref
			}
			e.Secret = true
			return value
		})
		f.entries[key] = e
	}
}

// get returns the value of a reference. Errors never show values.
func (p *provider) get(path, key string) (string, error) {
	if p.kind == "env" {
		if p.names != nil && !p.names.MatchString(key) {
			return "", fmt.Errorf("allowlist.pattern does not allow the variable %s", key)
		}
		if v, ok := p.env.Lookup(key); ok {
			return v, nil
		}
		return "", fmt.Errorf("the environment has no variable %s", key)
	}
	if path == "" {
		return "", fmt.Errorf("want ${%s:/path:key}", p.kind)
	}
	path = filepath.Clean(path)
	if len(p.paths) > 0 && !slices.ContainsFunc(p.paths, func(allowed string) bool { return beneath(path, allowed) }) {
		return "", fmt.Errorf("allowed.paths does not allow %s", path)
	}
	if p.kind == "dir" {
		return fromFolder(path, key)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %s", path, reason(err))
	}
	list, err := parseProperties(text)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	for _, line := range slices.Backward(list) {
		if line.key == key {
			return line.value, nil
		}
	}
	return "", fmt.Errorf("%s has no key %s", path, key)
}

// fromFolder returns the text of the file key, without the line break that
// editors put at its end.
func fromFolder(path, key string) (string, error) {
	if key != filepath.Base(key) || key == ".." {
		return "", errors.New("the key must be the name of a file in that folder")
	}
	text, err := os.ReadFile(filepath.Join(path, key))
	if err != nil {
		return "", fmt.Errorf("read %s: %s", filepath.Join(path, key), reason(err))
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), nil
}

func beneath(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}
