package pipeline

import "context"

// Source reads committed transactions from a server's binary log.
type Source interface {
	// Start connects, checks the server and its history against from, and
	// begins to stream after it. A nil from means that there is no checkpoint
	// yet: the source then decides by configuration where to begin, or
	// refuses. It returns the position at which the stream begins, which the
	// pipeline stores as the first checkpoint. After Close it may be called
	// again. Errors: *Refusal when a person must act, else one that
	// wraps ErrSourceLost.
	Start(ctx context.Context, from *Position) (Position, error)
	// Next waits for the next segment and fills seg, whose previous content
	// becomes invalid. A segment without rows carries a newer position alone.
	Next(ctx context.Context, seg *Segment) error
	// Close ends the stream and frees its connections. It may be called
	// twice, and at any time; Start begins anew after it.
	Close() error
}

// Transformer turns rows into records.
type Transformer interface {
	// Transform appends the records of seg to batch: keys, values and headers
	// in the batch's arenas. The same segment always gives the same bytes. It
	// returns *Refusal for a row that cannot become an event.
	Transform(ctx context.Context, seg *Segment, batch *Batch) error
}

// Learner is a Transformer that may have to ask outside, which may take as long
// as an outage does. Its Transform then returns ErrUnknown and has added
// nothing that counts; after Learn it is called again with the same segment.
type Learner interface {
	// Learn asks for what Transform did not know; it returns at once when
	// there is nothing to ask. It is never called while a Kafka transaction is
	// held open for what follows.
	Learn(ctx context.Context) error
}

// Parker is a Transformer that sets the events of some keys aside.
type Parker interface {
	// Restore says which keys are parked by what was committed: of those that
	// batches named since nothing remains. It is called before each stream.
	Restore(parked []ParkedKey)
}

// Sink delivers batches.
type Sink interface {
	// Recover waits until this instance owns the task, fences every older
	// owner, and returns the position of the last commit, or nil when there
	// was none. It is called first and again after every error of Deliver
	// that wraps ErrDoubt. It returns *Refusal when a person must act.
	Recover(ctx context.Context) (*Position, error)
	// Deliver publishes the batch and, when it ends between two source
	// transactions, commits it together with its end position. A batch
	// without records stores the position alone. After an error the whole
	// batch is in doubt.
	Deliver(ctx context.Context, batch *Batch) error
	// Close gives up ownership and frees connections. It may be called twice.
	Close() error
}
