package binlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// Tables returns the captured tables that the user sees, with their columns as
// they are defined now, so that what is configured can be held against them
// before the first row. Rows are read by what the log says of their own time,
// never by this. Collations and labels are left out.
func (f *Facts) Tables(ctx context.Context) ([]*pipeline.Table, error) {
	s, err := f.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	rows, err := s.query(ctx, columnsSQL)
	if err != nil {
		return nil, fmt.Errorf("read columns: %w", f.explain(err))
	}
	var tables []*pipeline.Table
	var last *pipeline.Table
	for _, row := range rows {
		if !f.opts.Captured(row["s"], row["t"]) {
			continue
		}
		if last == nil || last.Schema != row["s"] || last.Name != row["t"] {
			last = &pipeline.Table{Schema: row["s"], Name: row["t"]}
			tables = append(tables, last)
		}
		last.Columns = append(last.Columns, definedColumn(row))
	}
	if err := primaryKeys(ctx, s, tables); err != nil {
		return nil, fmt.Errorf("read primary keys: %w", f.explain(err))
	}
	return tables, nil
}

const columnsSQL = `SELECT c.TABLE_SCHEMA AS s, c.TABLE_NAME AS t, c.COLUMN_NAME AS name, c.DATA_TYPE AS type, c.COLUMN_TYPE AS full_type,
c.IS_NULLABLE AS nullable, COALESCE(c.CHARACTER_OCTET_LENGTH, 0) AS length, COALESCE(c.NUMERIC_PRECISION, 0) AS prec,
COALESCE(c.NUMERIC_SCALE, 0) AS scale, COALESCE(c.DATETIME_PRECISION, 0) AS fraction
FROM information_schema.COLUMNS c JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME
WHERE t.TABLE_TYPE = 'BASE TABLE' AND c.TABLE_SCHEMA NOT IN ('information_schema','performance_schema')
ORDER BY c.TABLE_SCHEMA, c.TABLE_NAME, c.ORDINAL_POSITION`

// sqlTypes are the types by their names in information_schema.
var sqlTypes = map[string]pipeline.ColumnType{
	"tinyint": pipeline.TypeTinyInt, "smallint": pipeline.TypeSmallInt, "mediumint": pipeline.TypeMediumInt, "int": pipeline.TypeInt,
	"bigint": pipeline.TypeBigInt, "float": pipeline.TypeFloat, "double": pipeline.TypeDouble, "decimal": pipeline.TypeDecimal,
	"bit": pipeline.TypeBit, "year": pipeline.TypeYear, "date": pipeline.TypeDate, "time": pipeline.TypeTime,
	"datetime": pipeline.TypeDateTime, "timestamp": pipeline.TypeTimestamp, "char": pipeline.TypeChar, "varchar": pipeline.TypeVarChar,
	"tinytext": pipeline.TypeText, "text": pipeline.TypeText, "mediumtext": pipeline.TypeText, "longtext": pipeline.TypeText,
	"binary": pipeline.TypeBinary, "varbinary": pipeline.TypeVarBinary, "tinyblob": pipeline.TypeBlob, "blob": pipeline.TypeBlob,
	"mediumblob": pipeline.TypeBlob, "longblob": pipeline.TypeBlob, "enum": pipeline.TypeEnum, "set": pipeline.TypeSet,
	"json": pipeline.TypeJSON, "vector": pipeline.TypeVector, "uuid": pipeline.TypeUUID, "inet4": pipeline.TypeInet4, "inet6": pipeline.TypeInet6,
	"geometry": pipeline.TypeGeometry, "point": pipeline.TypeGeometry, "linestring": pipeline.TypeGeometry, "polygon": pipeline.TypeGeometry,
	"multipoint": pipeline.TypeGeometry, "multilinestring": pipeline.TypeGeometry, "multipolygon": pipeline.TypeGeometry,
	"geometrycollection": pipeline.TypeGeometry, "geomcollection": pipeline.TypeGeometry,
}

// definedColumn reads a column's definition.
func definedColumn(row map[string]string) pipeline.Column {
	number := func(name string) int {
		n, err := strconv.ParseUint(row[name], 10, 64)
		if err != nil {
			return 0
		}
		return int(min(n, 1<<32-1)) // LONGTEXT is that long
	}
	c := pipeline.Column{
		Name: row["name"], Type: sqlTypes[strings.ToLower(row["type"])],
		Unsigned: strings.Contains(strings.ToLower(row["full_type"]), "unsigned"), Nullable: row["nullable"] == "YES",
		Length: number("length"), Fraction: number("fraction"),
	}
	switch c.Type {
	case pipeline.TypeDecimal:
		c.Precision, c.Scale = number("prec"), number("scale")
	case pipeline.TypeBit:
		c.Length = number("prec")
	}
	return c
}

// primaryKeys fills in the tables' primary keys.
func primaryKeys(ctx context.Context, s *session, tables []*pipeline.Table) error {
	rows, err := s.query(ctx, `SELECT TABLE_SCHEMA AS s, TABLE_NAME AS t, COLUMN_NAME AS name, SEQ_IN_INDEX AS n FROM information_schema.STATISTICS
WHERE INDEX_NAME = 'PRIMARY' AND TABLE_SCHEMA NOT IN ('mysql','sys')`)
	if err != nil {
		return err
	}
	places := map[[3]string]string{}
	for _, row := range rows {
		places[[3]string{row["s"], row["t"], row["name"]}] = row["n"]
	}
	for _, table := range tables {
		for i := range table.Columns {
			c := &table.Columns[i]
			if n := places[[3]string{table.Schema, table.Name, c.Name}]; n != "" {
				if c.PrimaryKey, err = strconv.Atoi(n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
