// Package avro reads Avro schemas and encodes values as they say, by appending
// to a byte slice.
//
// [Parse] checks a schema more strictly than the Avro libraries do, because
// what a lax one lets through is refused later by a registry or a consumer:
// names defined twice, defaults that are no value of their type, decimals
// without room. [Schema.Text] is one text per schema, so that equal schemas
// compare equal, and holds none of the properties that begin with "millrace.".
//
// [Schema.Compile] makes an [Encoder] from JSON, as text or in MySQL's binary
// form, to Avro. It is strict: a document either is a value of the schema or
// is refused with a [*Fault] that says where ("$.items[2].price") and why, and
// that never quotes the value. It goes over the document once and allocates
// nothing once its buffers have grown.
//
// How JSON becomes Avro:
//
//	null, boolean      null, true and false
//	int, long          a number that is whole, however it is written (1, 1.0, 1e3);
//	                   a double of a binary document up to 2^53
//	float, double      a number; a whole one must fit exactly, others are rounded
//	                   to the nearest value, as every JSON reader does
//	string             a string
//	bytes, fixed       a string of the characters U+0000 to U+00FF, one per byte,
//	                   as in Avro's own JSON
//	enum               a string, one of the symbols; an enum's default is for
//	                   readers and is not used here
//	array              an array
//	map                an object
//	record             an object with the fields in any order; a missing field
//	                   gets its default, one without default is a fault
//	union              with one branch beside null: null or the value itself.
//	                   With more: the value itself where only one branch takes
//	                   its JSON type, else Avro's tagged form {"<type>": value}
//	decimal            a number or a string with a number, exact; too many
//	                   fraction digits are a fault, as is too large a number
//	date               "2024-02-29", or a number of days since 1970
//	time-millis,       "10:30:00.123", or a number of units since midnight
//	time-micros
//	timestamp-millis,  "2024-02-29T10:30:00.123Z" with Z or an offset, or a
//	-micros, -nanos    number of units since 1970
//	local-timestamp-*  the same without Z or offset
//	uuid               a string of 36 characters with dashes; on a fixed of 16
//	                   bytes it is written as bytes
//
// A time with more fraction digits than its unit has is a fault unless they are
// zero. Other logical types, known or not, leave the type as it is, which is
// what the Avro specification asks for.
//
// Tags of unions are the names of the specification: a named type's full name,
// otherwise the type, without its logical type: {"long": 1}. The tagged form
// is understood wherever it can't be mistaken for a value.
package avro
