package bjson

import "testing"

// object makes {"a":1,"bb":v} or what comes of other keys.
func object(keys string, small bool) []byte {
	doc := []byte{typeSmallObject, 2, 0, 0, 0, 18, 0, 1, 0, 19, 0, 2, 0, typeInt16, 1, 0, typeInt16, 2, 0}
	doc = append(doc, keys...)
	doc[3] = byte(len(doc) - 1)
	if !small { // a value behind the keys, which the entry could point to
		doc = append(doc, "behind"...)
	}
	return doc
}

func TestKeys(t *testing.T) {
	root := func(doc []byte) *Value {
		v, err := Root(doc)
		if err != nil {
			t.Fatal(err)
		}
		return &v
	}
	var k Keys
	if k.Has(root(object("abb", true))) {
		t.Error("the zero Keys are those of an object")
	}
	k.Remember(root(object("abb", true)))
	for doc, want := range map[string]bool{
		string(object("abb", true)):    true,
		string(object("abb", false)):   true,
		string(object("abc", true)):    false,
		string(unhex(t, "0000000400")): false,
		string(unhex(t, "0003001d00190001001a0001001b00020005030005010005020061626161")): false,
	} {
		v := root([]byte(doc))
		if have := k.Has(v); have != want {
			t.Errorf("%x: have %t, want %t", doc, have, want)
		}
		if n := testing.AllocsPerRun(10, func() { k.Has(v) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	}
	// Keys that reach into the entries, or behind the end, are not remembered.
	for _, from := range []byte{3, 200} {
		doc := object("abb", true)
		doc[9] = from
		k.Remember(root(doc))
		if k.Has(root(doc)) {
			t.Errorf("keys at %d are remembered", from)
		}
	}
}
