package avro

// AppendText appends the Avro form of a JSON text to dst and returns the
// extended slice; dst may be nil. On a fault, a *[Fault], the result is as long
// as dst was. The text is not kept.
func (e *Encoder) AppendText(dst, text []byte) ([]byte, error) {
	e.begin(dst)
	e.src, e.pos = text, 0
	f := e.textValue(e.root)
	if f == nil && (e.next() != 0 || e.pos < len(e.src)) {
		f = &Fault{Reason: TrailingData}
	}
	return e.end(dst, f)
}

func (e *Encoder) textValue(n *node) *Fault {
	c := e.next()
	if n.kind == Union {
		return e.textUnion(n, c)
	}
	switch c {
	case '"':
		s, f := e.quoted()
		if f != nil {
			return f
		}
		return e.string(n, s)
	case '{':
		switch n.kind {
		case Record:
			return e.textRecord(n)
		case Map:
			return e.textMap(n)
		}
		return wrongType(n, jsonObject, 0)
	case '[':
		if n.kind == Array {
			return e.textArray(n)
		}
		return wrongType(n, jsonArray, 0)
	case 't':
		return e.textBool(n, "true", true)
	case 'f':
		return e.textBool(n, "false", false)
	case 'n':
		if f := e.word("null"); f != nil {
			return f
		}
		return e.null(n)
	}
	if c != '-' && !isDigit(c) {
		return e.invalid("a value")
	}
	lit, whole, f := e.literal()
	if f != nil {
		return f
	}
	return e.numberText(n, lit, whole)
}

func (e *Encoder) textBool(n *node, word string, v bool) *Fault {
	if f := e.word(word); f != nil {
		return f
	}
	return e.bool(n, v)
}

// textUnion finds the branch of the value that begins with c.
func (e *Encoder) textUnion(n *node, c byte) *Fault {
	var t jsonType
	switch c {
	case '{':
		t = jsonObject
		if len(n.union.tags) > 0 {
			i, f := e.textTag(n.union)
			if f != nil {
				return f
			}
			if i != noBranch {
				return e.textTagged(n, i)
			}
		}
	case '[':
		t = jsonArray
	case '"':
		t = jsonString
	case 't', 'f':
		t = jsonBool
	case 'n':
		t = jsonNull
	default:
		if c != '-' && !isDigit(c) {
			return e.invalid("a value")
		}
		t = jsonNumber
	}
	from := e.pos
	b, f := e.branch(n, t, 0)
	if f == nil {
		return e.textValue(b)
	}
	// The message gives the length, and a text that is no JSON says so.
	if f := e.skip(); f != nil {
		return f
	}
	length := e.pos - from
	if t == jsonString {
		length -= len(`""`)
	}
	f.Have = describeJSON(t, length)
	return f
}

// textTag returns the branch that the object at pos names, if it is a tag: an
// object of one member whose name is that of a branch. It leaves pos as it was.
func (e *Encoder) textTag(u *unionNode) (int, *Fault) {
	start, depth := e.pos, e.depth
	defer func() { e.pos, e.depth = start, depth }()
	e.pos++
	if e.next() != '"' {
		return noBranch, nil
	}
	name, f := e.name()
	if f != nil {
		return noBranch, f
	}
	i := u.tag(name)
	if i == noBranch {
		return i, nil
	}
	if f := e.deeper(nil); f != nil {
		return noBranch, f
	}
	if f := e.skip(); f != nil {
		return noBranch, f
	}
	if e.next() != '}' {
		return noBranch, nil
	}
	return i, nil
}

// textTagged reads the object that textTag has found to be a tag.
func (e *Encoder) textTagged(n *node, i int) *Fault {
	if f := e.deeper(n); f != nil {
		return f
	}
	e.pos++
	if _, f := e.name(); f != nil {
		return f
	}
	e.out = AppendUnionIndex(e.out, i)
	b := n.union.branches[i]
	if f := e.textValue(b); f != nil {
		return f.inTag(b.schema.Name())
	}
	e.next()
	e.pos++
	e.depth--
	return nil
}

func (e *Encoder) textRecord(n *node) *Fault {
	if f := e.deeper(n); f != nil {
		return f
	}
	e.pos++
	r := e.beginRecord(n)
	next := 0
	for first := true; ; first = false {
		more, f := e.more('}', first)
		if f != nil {
			return f
		}
		if !more {
			break
		}
		name, f := e.name()
		if f != nil {
			return f
		}
		i := n.find(name, next)
		if i < 0 {
			if f := e.extra(n, name); f != nil {
				return f
			}
			if f := e.skip(); f != nil {
				return f
			}
			continue
		}
		if f := e.see(&r, i); f != nil {
			return f
		}
		if f := e.textValue(n.fields[i].node); f != nil {
			return f.inField(n.fields[i].name)
		}
		e.seen(&r, i)
		next = i + 1
	}
	e.depth--
	return e.endRecord(&r)
}

func (e *Encoder) textArray(n *node) *Fault {
	if f := e.deeper(n); f != nil {
		return f
	}
	e.pos++
	at := len(e.out)
	e.out = append(e.out, 0)
	count := 0
	for {
		more, f := e.more(']', count == 0)
		if f != nil {
			return f
		}
		if !more {
			break
		}
		if f := e.textValue(n.element); f != nil {
			return f.inItem(count)
		}
		count++
	}
	e.depth--
	e.endBlock(at, count)
	return nil
}

func (e *Encoder) textMap(n *node) *Fault {
	if f := e.deeper(n); f != nil {
		return f
	}
	e.pos++
	at, first := len(e.out), len(e.keys)
	e.out = append(e.out, 0)
	count := 0
	for {
		more, f := e.more('}', count == 0)
		if f != nil {
			return f
		}
		if !more {
			break
		}
		key, f := e.name()
		if f != nil {
			return f
		}
		if f := e.addKey(first, key); f != nil {
			return f
		}
		if f := e.textValue(n.element); f != nil {
			return f.inEntry(count)
		}
		count++
	}
	e.depth--
	if f := e.endKeys(first); f != nil {
		return f
	}
	e.endBlock(at, count)
	return nil
}
