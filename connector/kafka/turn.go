package kafka

// turn takes the other of two producers, which have the two transactional ids,
// for the next transaction.
//
// After EndTxn the coordinator writes the markers, and until they are all
// written it answers the same id's next AddPartitionsToTxn with
// CONCURRENT_TRANSACTIONS, after which librdkafka waits 20 ms
// (rd_kafka_txn_handle_AddPartitionsToTxn): at a thousand transactions a second
// that wait would be most of an event's latency. The other id's markers are
// written by then.
//
// The order of commits does not rest on the ids: a transaction begins when the
// last one's commit is known, and its place in the checkpoint partition says
// whether it does.
func (s *Sink) turn() {
	if s.twin != nil && s.p.begun {
		s.p, s.twin = s.twin, s.p
	}
}
