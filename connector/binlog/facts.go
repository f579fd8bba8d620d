package binlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"millrace/connector/pipeline"
)

// Facts asks a server what its log does not say of tables: default values, and
// MariaDB's types that stand in the log as plain bytes. It sees only tables on
// which the user has a privilege, and says nothing of others.
type Facts struct{ connector }

// facts returns facts about the server that c connects to.
func (c *connector) facts() *Facts { return &Facts{connector{opts: c.opts, log: c.log}} }

// NewFacts returns facts about the server of opts. It connects when asked.
func NewFacts(opts Options) *Facts { return &Facts{newConnector(opts)} }

func (f *Facts) columns(ctx context.Context, schema, table string) ([]map[string]string, error) {
	s, err := f.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	rows, err := s.query(ctx, fmt.Sprintf("SELECT column_name AS name, data_type AS type, column_type AS full_type, column_default AS value, column_default IS NULL AS none, extra AS extra, COALESCE(datetime_precision, 0) AS fraction "+
		"FROM information_schema.columns WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position", quoteText(schema), quoteText(table)))
	if err != nil {
		return nil, fmt.Errorf("read columns of %s.%s: %w", schema, table, f.explain(err))
	}
	return rows, nil
}

// Defaults returns the literal defaults of a table's columns by column name,
// without quotes, CURRENT_TIMESTAMP as this word. Columns without a default,
// with NULL or with another expression are left out.
func (f *Facts) Defaults(ctx context.Context, schema, table string) (map[string]string, error) {
	rows, err := f.columns(ctx, schema, table)
	if err != nil {
		return nil, err
	}
	defaults := map[string]string{}
	for _, row := range rows {
		value := row["value"]
		upper := strings.ToUpper(value)
		switch {
		case row["none"] == "1", f.opts.Flavor == pipeline.MariaDB && upper == "NULL":
		case strings.HasPrefix(upper, "CURRENT_TIMESTAMP"):
			defaults[row["name"]] = "CURRENT_TIMESTAMP"
		case strings.Contains(strings.ToUpper(row["extra"]), "DEFAULT_GENERATED"):
		case f.opts.Flavor == pipeline.MariaDB:
			if text, literal := mariaLiteral(value); literal {
				defaults[row["name"]] = text
			}
		default:
			defaults[row["name"]] = value
		}
	}
	return defaults, nil
}

// mariaLiteral reads a default as MariaDB 10.2.7 and later show it: an
// expression, in which text stands in quotes.
func mariaLiteral(value string) (string, bool) {
	if len(value) >= 2 && value[0] == '\'' && value[len(value)-1] == '\'' {
		return strings.ReplaceAll(value[1:len(value)-1], "''", "'"), true
	}
	return value, !strings.ContainsAny(value, "()")
}

// declared returns the columns of a table on MariaDB, by name, with what the
// log does not describe: the types UUID, INET4 and INET6, and the fraction
// digits of temporal columns, which the log does not tell of those in the old
// format. None mean that the user does not see the table. On MySQL there is
// nothing to ask for.
func (f *Facts) declared(schema, table string) ([]pipeline.Column, error) {
	if f.opts.Flavor != pipeline.MariaDB {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), f.opts.ConnectTimeout)
	defer cancel()
	rows, err := f.columns(ctx, schema, table)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: %s: read columns of %s.%s: %w", pipeline.ErrSourceLost, f.address(), schema, table, err)
	case err != nil:
		return nil, err
	}
	types := map[string]pipeline.ColumnType{"uuid": pipeline.TypeUUID, "inet4": pipeline.TypeInet4, "inet6": pipeline.TypeInet6}
	columns := make([]pipeline.Column, len(rows))
	for i, row := range rows {
		fraction, err := strconv.Atoi(row["fraction"])
		if err != nil {
			return nil, fmt.Errorf("read columns of %s.%s: fraction digits of %s: %w", schema, table, row["name"], err)
		}
		columns[i] = pipeline.Column{
			Name: row["name"], Type: types[strings.ToLower(row["type"])],
			Unsigned: strings.Contains(row["full_type"], "unsigned"), Fraction: fraction,
		}
	}
	return columns, nil
}

// quoteText quotes a string literal. The mode NO_BACKSLASH_ESCAPES is not set
// on our connections.
func quoteText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
}
