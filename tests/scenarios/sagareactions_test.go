package scenarios

import (
	"context"
	"database/sql"
)

// reactions are what the services do when they hear of something, in their own
// transaction, and what they tell in turn. There is no conductor.
var reactions = map[string]func(context.Context, *sql.Tx, event) (*outboxRow, error){
	"stock OrderPlaced":     reserve,
	"stock PaymentRefused":  giveBack,
	"payment StockReserved": pay,
	"order StockRefused":    settle("no stock"),
	"order PaymentRefused":  settle("not paid"),
	"order PaymentTaken":    settle("confirmed"),
}

// field returns a number of an event.
func field(e event, name string) int {
	switch n := e.Payload[name].(type) {
	case int32:
		return int(n)
	case float64: // of JSON, in the twin
		return int(n)
	}
	return 0
}

// answer tells something of the order that the event is about.
func answer(e event, aggregate, kind string, more ...string) *outboxRow {
	payload := map[string]any{"order": field(e, "order")}
	for _, name := range more {
		payload[name] = field(e, name)
	}
	return &outboxRow{aggregate, e.AggregateID, kind, payload}
}

// reserve puts the pieces of an order aside.
func reserve(ctx context.Context, tx *sql.Tx, e event) (*outboxRow, error) {
	taken, err := tx.ExecContext(ctx, "UPDATE shelf SET pieces = pieces - ? WHERE product = ? AND pieces >= ?", field(e, "quantity"), field(e, "product"), field(e, "quantity"))
	if err != nil {
		return nil, err
	}
	if enough, err := taken.RowsAffected(); err != nil || enough == 0 {
		return answer(e, "stock", "StockRefused"), err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO reservation (order_id, product, quantity) VALUES (?, ?, ?)", field(e, "order"), field(e, "product"), field(e, "quantity"))
	return answer(e, "stock", "StockReserved", "customer", "cents"), err
}

// giveBack is the compensation: the pieces go back to the shelf.
func giveBack(ctx context.Context, tx *sql.Tx, e event) (*outboxRow, error) {
	_, err := tx.ExecContext(ctx, "UPDATE shelf JOIN reservation USING (product) SET pieces = pieces + quantity WHERE order_id = ?", field(e, "order"))
	if err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM reservation WHERE order_id = ?", field(e, "order"))
	return answer(e, "stock", "StockReturned"), err
}

// pay takes the money of a customer who has enough.
func pay(ctx context.Context, tx *sql.Tx, e event) (*outboxRow, error) {
	taken, err := tx.ExecContext(ctx, "UPDATE account SET cents = cents - ? WHERE customer = ? AND cents >= ?", field(e, "cents"), field(e, "customer"), field(e, "cents"))
	if err != nil {
		return nil, err
	}
	if enough, err := taken.RowsAffected(); err != nil || enough == 0 {
		return answer(e, "payment", "PaymentRefused"), err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO payment (order_id, cents) VALUES (?, ?)", field(e, "order"), field(e, "cents"))
	return answer(e, "payment", "PaymentTaken", "cents"), err
}

// settle notes how an order ended.
func settle(state string) func(context.Context, *sql.Tx, event) (*outboxRow, error) {
	return func(ctx context.Context, tx *sql.Tx, e event) (*outboxRow, error) {
		_, err := tx.ExecContext(ctx, "UPDATE orders SET state = ? WHERE id = ?", state, field(e, "order"))
		return nil, err
	}
}
