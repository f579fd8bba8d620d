package pipeline

// ColumnType is the SQL type of a column, independent of how a server numbers
// its wire types.
type ColumnType uint8

// The column types of MySQL and MariaDB. MariaDB's JSON is TypeText, its
// compressed columns have the type they inflate to.
const (
	TypeUnknown ColumnType = iota
	TypeTinyInt
	TypeSmallInt
	TypeMediumInt
	TypeInt
	TypeBigInt
	TypeFloat
	TypeDouble
	TypeDecimal
	TypeBit
	TypeYear
	TypeDate
	TypeTime
	TypeDateTime
	TypeTimestamp
	TypeChar
	TypeVarChar
	TypeText
	TypeBinary
	TypeVarBinary
	TypeBlob
	TypeEnum
	TypeSet
	TypeJSON
	TypeGeometry
	TypeVector
	TypeUUID
	TypeInet4
	TypeInet6
)

// Column describes one column as the table map in the log described it when
// the row was written. It is not what information_schema says today.
type Column struct {
	// Name is empty when the log carries no names and none were declared.
	Name     string
	Type     ColumnType
	Unsigned bool
	Nullable bool
	// Length is the declared length in bytes of character and binary types,
	// in bits of BIT.
	Length int
	// Precision and Scale are those of DECIMAL.
	Precision, Scale int
	// Fraction is the number of fractional second digits of temporal types.
	Fraction int
	// Collation is the server's collation id of character, ENUM and SET
	// columns, 0 when the log does not say.
	Collation uint16
	// Labels are those of ENUM and SET, as UTF-8.
	Labels []string
	// PrimaryKey is the 1-based place of the column in the primary key, 0
	// when it is no part of it.
	PrimaryKey int
}

// Table is one shape of one table: two table maps that describe the same
// columns share one Table, and a DDL gives a new one. Tables are immutable;
// their pointers are the key under which plans are compiled and kept.
type Table struct {
	Schema, Name string
	Columns      []Column
}

// ColumnIndex returns the index of the column with the given name, compared
// without regard to ASCII case as the servers do, or -1.
func (t *Table) ColumnIndex(name string) int {
	for i := range t.Columns {
		if equalFold(t.Columns[i].Name, name) {
			return i
		}
	}
	return -1
}

// String returns schema.name.
func (t *Table) String() string { return t.Schema + "." + t.Name }

func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}

// Op is what happened to a row.
type Op uint8

// The operations on a row.
const (
	Insert Op = iota + 1
	Update
	Delete
)

// String returns the operation in SQL's word.
func (o Op) String() string {
	switch o {
	case Insert:
		return "INSERT"
	case Update:
		return "UPDATE"
	case Delete:
		return "DELETE"
	default:
		return "unknown operation"
	}
}

// Row is one row image of a captured table. Before is set for Update and
// Delete, After for Insert and Update; both have one value per column of
// Table. Row and everything it points at belong to the segment that holds it.
type Row struct {
	Table         *Table
	Op            Op
	Before, After []Value
	// Ordinal counts the row images of this table within its transaction,
	// from 0, so that capturing another table changes nothing.
	Ordinal int
	// Tx is the index in Segment.Txs of the transaction it belongs to.
	Tx int
}
