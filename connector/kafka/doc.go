// Package kafka delivers batches to Kafka, each record exactly once, and keeps
// the checkpoint that says how far delivery has come.
//
// # One task, one owner, one transactional id
//
// A task is a connector of an instance. It has one transactional id
// (<instance>.<connector>.0), one consumer group (<instance>.<connector>) and
// one checkpoint topic of one partition. Whoever the group assigns that
// partition to owns the task; only the owner calls InitTransactions, so two
// instances never fence each other in turns. Election decides who should
// write; the fencing by InitTransactions is what makes it safe. A member with a
// slot of its own (HoldSlot) is given back its task at once after a crash, and
// hands it over before it closes.
//
// # The commit protocol
//
//	settle what the last commit left in doubt   (stats or a new producer)
//	begin
//	PRIME       what is about to be written; flushed
//	records     each with the partition computed here; flushed
//	CHECKPOINT  count, digests, offsets, position; flushed
//	commit      trusted only when EndTxn was provably sent once
//
// librdkafka resends EndTxn without telling (KAFKA-17754): a late one may abort
// or commit the next transaction while CommitTransaction returns nil. So:
//
//   - AbortTransaction is never called. A transaction is given up by purging
//     and closing its producer; the InitTransactions of the next one aborts it
//     and bumps the epoch, so that whatever comes late is refused.
//   - No doubt survives into the next transaction: before begin, either the
//     duration of the commit or the client's own counter proves that one
//     EndTxn was sent, or there is a new producer.
//   - The flushes are the second line: a transaction ended early by a late
//     request leaves PRIME visible without CHECKPOINT, never the reverse.
//
// Any other doubt ends the producer, and Recover decides by reading the
// checkpoint topic after fencing.
//
// # Recovery
//
// Own, fence, read the checkpoint up to the high watermark seen after fencing,
// verify the event topics against it. Records behind it mean that Kafka lost
// acknowledged data: refuse. Records ahead of it are those of a transaction
// that was committed early; they are recognised when they come again and are
// not written twice.
//
// The formats of the checkpoint topic are documented in checkpoint.go. They
// are kept for ever.
package kafka
