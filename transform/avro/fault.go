package avro

import "strconv"

// Reason says in what way a document is no value of its schema.
type Reason uint8

// The reasons of faults.
const (
	// InvalidJSON: the text, or the binary document, is not well formed.
	InvalidJSON Reason = iota + 1
	// TrailingData: something follows the document.
	TrailingData
	// InvalidUTF8: a string is not valid UTF-8 or holds half a surrogate pair.
	InvalidUTF8
	// TooDeep: arrays and objects are nested more than 64 deep.
	TooDeep
	// DuplicateKey: a name stands twice in an object.
	DuplicateKey
	// MissingField: a record's field without default is not there.
	MissingField
	// ExtraField: an object has a name that the record does not declare.
	ExtraField
	// WrongType: the JSON type is none that the schema takes here.
	WrongType
	// Ambiguous: several branches of a union take this JSON type.
	Ambiguous
	// Overflow: a number or time is out of range.
	Overflow
	// PrecisionLoss: a number or time has digits that the type can't hold.
	PrecisionLoss
	// BadSymbol: a string is not one of an enum's symbols.
	BadSymbol
	// BadFormat: a string is not written as the logical type wants it.
	BadFormat
	// BadLength: a string has not the length of the fixed.
	BadLength
)

var reasonNames = [...]string{
	InvalidJSON: "invalid JSON", TrailingData: "trailing data", InvalidUTF8: "invalid UTF-8", TooDeep: "nested too deep",
	DuplicateKey: "duplicate key", MissingField: "missing field", ExtraField: "extra field", WrongType: "wrong type",
	Ambiguous: "ambiguous union", Overflow: "overflow", PrecisionLoss: "precision loss", BadSymbol: "not a symbol of the enum",
	BadFormat: "bad format", BadLength: "wrong length",
}

// String returns the reason in words.
func (r Reason) String() string { return reasonNames[r] }

// Fault says why and where a document is no value of its schema. It names
// declared fields, types and lengths, never a value or a map's key, so that it
// may be logged.
type Fault struct {
	// Reason is what is wrong.
	Reason Reason
	// Path leads to the place: "$.items[2].price". An entry of a map is given
	// by its place among the others: "$.prices{3}".
	Path string
	// Want is what the schema asks for, Have the JSON type and length found;
	// each may be empty.
	Want, Have string
}

// Error returns path, reason, want and have on one line.
func (f *Fault) Error() string {
	s := f.Path + ": " + f.Reason.String()
	if f.Want != "" {
		s += ", want " + f.Want
	}
	if f.Have != "" {
		s += ", have " + f.Have
	}
	return s
}

func (f *Fault) inField(name string) *Fault {
	f.Path = "." + name + f.Path
	return f
}

func (f *Fault) inItem(i int) *Fault {
	f.Path = "[" + strconv.Itoa(i) + "]" + f.Path
	return f
}

func (f *Fault) inEntry(i int) *Fault {
	f.Path = "{" + strconv.Itoa(i) + "}" + f.Path
	return f
}

// inTag is the place inside a union's tagged form.
func (f *Fault) inTag(name string) *Fault {
	f.Path = "['" + name + "']" + f.Path
	return f
}

// shownName returns a name for messages: as it is when it looks like a field's
// name, else its length, since a key of a map by mistake may hold anything.
func shownName(name []byte) string {
	if len(name) <= 64 && isName(string(name)) {
		return string(name)
	}
	return "a name of " + strconv.Itoa(len(name)) + " bytes"
}
