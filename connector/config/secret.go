package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// hidden stands for a secret, in Kafka's word for it.
const hidden = "[hidden]"

// secretWords mark keys whose values are not to be shown, plainWords those of
// them that hold no secret.
var (
	secretWords = []string{"password", "passphrase", "secret", "jaas", "credential", "token", "user.info", "private", "keystore.key"}
	plainWords  = []string{"credentials.source", "token.endpoint", "client.credentials.scope", "secret.location"}
)

// login is a user and a password in a URL.
var login = regexp.MustCompile(`://[^/@\s]*:[^/@\s]*@`)

// IsSecret reports whether the value of key is not to be shown.
func IsSecret(key string) bool {
	key = strings.ToLower(key)
	within := func(word string) bool { return strings.Contains(key, word) }
	return slices.ContainsFunc(secretWords, within) && !slices.ContainsFunc(plainWords, within)
}

// Setting is a key with its value, for people: secrets are hidden.
type Setting struct{ Key, Value, Origin string }

// Redacted returns all settings of f by key, with [hidden] for every value
// that came from a config provider or whose key speaks of a secret.
func (f *File) Redacted() []Setting {
	var list []Setting
	for _, key := range f.Keys() {
		list = append(list, redacted(key, f.entries[key]))
	}
	return list
}

// Redacted returns the settings that the connector has, those of its worker
// among them, as [File.Redacted] does.
func (v *View) Redacted() []Setting {
	var list []Setting
	for _, key := range v.Keys("") {
		e, _ := v.entry(key)
		list = append(list, redacted(key, e))
	}
	return list
}

func redacted(key string, e Entry) Setting {
	if e.Value != "" && (e.Secret || IsSecret(key)) {
		e.Value = hidden
	}
	e.Value = login.ReplaceAllString(e.Value, "://"+hidden+"@")
	return Setting{Key: key, Value: e.Value, Origin: e.Origin}
}

// hide takes the value of a secret out of a text about it.
func hide(text, key string, e Entry) string {
	text = login.ReplaceAllString(text, "://"+hidden+"@")
	value := strings.TrimSpace(e.Value)
	if value == "" || !e.Secret && !IsSecret(key) {
		return text
	}
	text = strings.ReplaceAll(text, strconv.Quote(value), hidden)
	return strings.ReplaceAll(text, value, hidden)
}
