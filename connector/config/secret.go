package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// reference is ${provider:[path:]key}, Kafka's form (KIP-297).
var reference = regexp.MustCompile(`\$\{([a-zA-Z0-9_-]+):(?:([^}]*?):)?([^}:]*)\}`)

// secretWords mark keys whose values are not to be shown.
var secretWords = []string{"password", "secret", "jaas", "credential", "token", "user.info", "private", ".key"}

// IsSecret reports whether the value of key is not to be shown.
func IsSecret(key string) bool {
	key = strings.ToLower(key)
	for _, w := range secretWords {
		if strings.Contains(key, w) && !strings.HasSuffix(key, "credentials.source") && !strings.Contains(key, "field.event.key") {
			return true
		}
	}
	return false
}

// resolve replaces references to config providers in every value of f. The
// providers env, file and dir (EnvVar-, File- and DirectoryConfigProvider) are
// there without being declared; a worker may declare them under other names.
func resolve(f *File, env Environment, p *Problems) {
	names := providerNames(f)
	for key, e := range f.entries {
		if !strings.Contains(e.Value, "${") || strings.HasPrefix(key, "transforms.") {
			continue
		}
		replaced := reference.ReplaceAllStringFunc(e.Value, func(ref string) string {
			m := reference.FindStringSubmatch(ref)
			kind, known := names[m[1]]
			if !known {
				p.At(key, e, "names the config provider "+m[1]+"; there are env, file and dir")
				return ref
			}
			value, err := provide(kind, m[2], m[3], env)
			if err != nil {
				p.At(key, e, "resolve "+ref+": "+err.Error())
				return ref
			}
			return value
		})
		if replaced != e.Value {
			e.Value, e.Secret = replaced, true
			f.entries[key] = e
		}
	}
}

// providerNames maps a provider's name to env, file or dir.
func providerNames(f *File) map[string]string {
	names := map[string]string{"env": "env", "file": "file", "dir": "dir", "directory": "dir"}
	for name := range strings.SplitSeq(f.entries["config.providers"].Value, ",") {
		name = strings.TrimSpace(name)
		class := f.entries["config.providers."+name+".class"].Value
		switch class[strings.LastIndexByte(class, '.')+1:] {
		case "EnvVarConfigProvider":
			names[name] = "env"
		case "FileConfigProvider":
			names[name] = "file"
		case "DirectoryConfigProvider":
			names[name] = "dir"
		}
	}
	return names
}

func provide(kind, path, key string, env Environment) (string, error) {
	switch kind {
	case "env":
		if v, ok := env.Lookup(key); ok {
			return v, nil
		}
		return "", fmt.Errorf("the environment has no variable %s", key)
	case "file":
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		for _, line := range parseProperties(string(text)) {
			if line.key == key {
				return line.value, nil
			}
		}
		return "", fmt.Errorf("%s has no key %s", path, key)
	default:
		if key != filepath.Base(key) || key == ".." {
			return "", errors.New("the key must be the name of a file in that folder")
		}
		text, err := os.ReadFile(filepath.Join(path, key))
		return strings.TrimSuffix(string(text), "\n"), err
	}
}
