// Package schemas loads the declared shape of events: a folder per aggregate,
// in it one Avro record per event type, named <EventType>.avsc, and a folder
// common for named types that several events share.
//
// It knows files, names and schema texts. What a row, a topic or a registry is,
// it doesn't.
package schemas
