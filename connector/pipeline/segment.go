package pipeline

// Segment is what a source hands over: the captured rows of one or more whole
// transactions, or a bounded part of a single one that is proven committed.
// The caller of Source.Next owns the Segment and gives it back to be refilled;
// the rows and values in it are valid until then.
type Segment struct {
	Rows []Row
	Txs  []Tx
	// First says that the segment begins at the start of a transaction, Last
	// that it ends at the end of one. Only a transaction larger than the
	// source's buffer gives segments where one of them is false.
	First, Last bool
	// End is the position after the segment; valid only when Last is true.
	End Position
}

// Reset empties s for reuse, keeping its memory.
func (s *Segment) Reset() {
	clear(s.Rows)
	s.Rows = s.Rows[:0]
	clear(s.Txs)
	s.Txs = s.Txs[:0]
	s.First, s.Last = false, false
	s.End = Position{}
}
