// Package pipeline holds Millrace's vocabulary and its spine.
//
// The vocabulary: a [Position] in a server's binary log, the [Table], [Row] and
// [Value] that a source decodes, the [Segment] it hands over, the [Record] and
// [Batch] that a transformer makes of it. The spine: [Pipeline], which moves
// data one way, from a [Source] through a [Transformer] into a [Sink], and
// which goes back only one way, through recovery.
//
// Nothing here knows MySQL packets, Kafka, Avro, HTTP, files or the
// environment.
package pipeline
