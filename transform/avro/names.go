package avro

import (
	"errors"
	"fmt"
	"strings"
)

// definedName returns the full name of the type that v defines inside a
// namespace. https://avro.apache.org/docs/1.12.0/specification/#names
func definedName(v *value, namespace string) (string, error) {
	name, ok := v.get("name").string()
	if !ok {
		return "", errors.New("a record, enum or fixed has a name")
	}
	if err := checkFullName(name); err != nil {
		return "", err
	}
	if own := v.get("namespace"); own != nil {
		if namespace, ok = own.string(); !ok {
			return "", fmt.Errorf("the namespace of %s is %s, not a string", name, own.describe())
		}
		if namespace != "" {
			if err := checkFullName(namespace); err != nil {
				return "", fmt.Errorf("namespace: %w", err)
			}
		}
	}
	// A name with dots is a full name; the namespace beside it counts for
	// nothing.
	if strings.Contains(name, ".") || namespace == "" {
		if _, short := splitName(name); primitiveName(short) && short == name {
			return "", fmt.Errorf("%s is the name of a primitive type", name)
		}
		return name, nil
	}
	return namespace + "." + name, nil
}

func primitiveName(name string) bool {
	_, ok := primitives[name]
	return ok
}

// checkName refuses what is no Avro name: letters, digits and underscores, not
// beginning with a digit.
func checkName(name string) error {
	if isName(name) {
		return nil
	}
	return fmt.Errorf("%q is no name: names are of letters, digits and _, and do not begin with a digit", name)
}

func checkFullName(name string) error {
	for part := range strings.SplitSeq(name, ".") {
		if !isName(part) {
			return checkName(name)
		}
	}
	return nil
}

func isName(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if letter := 'a' <= c && c <= 'z' || s[i] == '_'; !letter && (i == 0 || s[i] < '0' || s[i] > '9') {
			return false
		}
	}
	return s != ""
}

func checkAliases(v *value) error {
	aliases := v.get("aliases")
	if aliases == nil {
		return nil
	}
	if aliases.kind != '[' {
		return errors.New("aliases are a list of names")
	}
	for _, item := range aliases.items {
		name, _ := item.string()
		if err := checkFullName(name); err != nil {
			return fmt.Errorf("aliases: %w", err)
		}
	}
	return nil
}
