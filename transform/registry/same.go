package registry

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
)

// Registries give a schema back in their own writing: other order of
// properties, names shortened inside a namespace, documentation dropped. same
// reports whether two texts are one schema for what is written with it: types,
// names, fields, symbols, sizes, defaults and all other properties are equal.
// told is false when documentation or aliases differ, which change no byte.
func same(a, b string) (equal, told bool, err error) {
	var forms [2]any
	for i, text := range []string{a, b} {
		if forms[i], err = decode(text); err != nil {
			return false, false, err
		}
		forms[i] = resolve(forms[i], "")
	}
	if reflect.DeepEqual(forms[0], forms[1]) {
		return true, true, nil
	}
	return reflect.DeepEqual(bare(forms[0]), bare(forms[1])), false, nil
}

func decode(text string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("read a schema as JSON: %w", err)
	}
	return v, nil
}

var primitives = []string{"null", "boolean", "int", "long", "float", "double", "bytes", "string"}

// resolve writes a schema with full names and without what can be left out.
func resolve(v any, namespace string) any {
	switch v := v.(type) {
	case string:
		if slices.Contains(primitives, v) {
			return v
		}
		return qualify(v, namespace)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = resolve(item, namespace)
		}
		return out
	case map[string]any:
		return resolveObject(v, namespace)
	}
	return v
}

func resolveObject(v map[string]any, namespace string) any {
	word, isWord := v["type"].(string)
	if len(v) == 1 || !isWord {
		// {"type": X} is X.
		return resolve(v["type"], namespace)
	}
	out := map[string]any{}
	for name, p := range v {
		out[name] = data(p)
	}
	switch word {
	case "record", "error", "enum", "fixed":
		if own, ok := v["namespace"].(string); ok {
			namespace = own
		}
		name, _ := v["name"].(string)
		full := qualify(name, namespace)
		namespace = full[:max(0, strings.LastIndexByte(full, '.'))]
		delete(out, "namespace")
		out["name"] = full
		out["aliases"] = aliases(v["aliases"], namespace)
		if fields, ok := v["fields"].([]any); ok {
			out["fields"] = resolveFields(fields, namespace)
		}
	case "array":
		out["items"] = resolve(v["items"], namespace)
	case "map":
		out["values"] = resolve(v["values"], namespace)
	default:
		if len(out) == 1 {
			return resolve(word, namespace)
		}
	}
	if out["aliases"] == nil {
		delete(out, "aliases")
	}
	return out
}

func resolveFields(fields []any, namespace string) []any {
	list := make([]any, len(fields))
	for i, item := range fields {
		f, ok := item.(map[string]any)
		if !ok {
			list[i] = item
			continue
		}
		out := map[string]any{}
		for name, p := range f {
			out[name] = data(p)
		}
		out["type"] = resolve(f["type"], namespace)
		if out["order"] == "ascending" { // the default
			delete(out, "order")
		}
		list[i] = out
	}
	return list
}

// aliases are relative to the namespace of the type that has them.
func aliases(v any, namespace string) any {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil
	}
	out := make([]any, len(list))
	for i, item := range list {
		name, _ := item.(string)
		out[i] = qualify(name, namespace)
	}
	return out
}

func qualify(name, namespace string) string {
	if namespace == "" || strings.Contains(name, ".") {
		return name
	}
	return namespace + "." + name
}

// data writes numbers by value, since 1.0 may come back as 1.
func data(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, ok := new(big.Rat).SetString(v.String()); ok {
			return n.RatString()
		}
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = data(item)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, item := range v {
			out[name] = data(item)
		}
		return out
	}
	return v
}

// bare returns a resolved schema without documentation and aliases.
func bare(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = bare(item)
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for name, item := range v {
			switch name {
			case "doc", "aliases":
			case "default":
				out[name] = item // data, in which a member may be called doc
			default:
				out[name] = bare(item)
			}
		}
		return out
	}
	return v
}
