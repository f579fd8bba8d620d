package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// MySQLPrefix returns the folder with MySQL's programs, which it installs when
// they are missing: Debian's unstable release has the only MySQL packages that
// the Debian archive holds.
func MySQLPrefix(ctx context.Context) (string, error) {
	return install(ctx, "mysql", selection{suite: "sid", packages: []string{"mysql-server-core", "mysql-client-core"}}.unpack)
}

// StartMySQL starts a MySQL with GTIDs, row format and full row metadata. The
// caller closes it.
func StartMySQL(ctx context.Context, o DatabaseOptions) (*Database, error) {
	return startDatabase(ctx, FlavorMySQL, o, func(d *Database) (string, func() ([]string, error), error) {
		root, err := MySQLPrefix(ctx)
		if err != nil {
			return "", nil, err
		}
		template, err := install(ctx, "mysql-data-1", func(ctx context.Context, dir string) error {
			return initMySQL(ctx, root, dir)
		})
		words := func() ([]string, error) {
			argv, err := mysqld(root)
			return append(argv, "--server-id="+strconv.Itoa(d.Port), "--gtid-mode=ON", "--enforce-gtid-consistency=ON",
				"--mysqlx=OFF", "--innodb-redo-log-capacity=64M"), err
		}
		return template, words, err
	})
}

// mysqld returns the words that run the server with the settings that a
// private prefix needs.
func mysqld(root string) ([]string, error) {
	argv, err := prefix(root).command("usr/sbin/mysqld", "mysql/private")
	if err != nil {
		return nil, err
	}
	share := filepath.Join(root, "usr/share/mysql")
	return append(argv, "--no-defaults", "--user="+strconv.Itoa(os.Getuid()), "--basedir="+filepath.Join(root, "usr"),
		"--lc-messages-dir="+share, "--character-sets-dir="+filepath.Join(share, "charsets"),
		"--plugin-dir="+filepath.Join(root, "usr/lib/mysql/plugin")), nil
}

// initMySQL makes an empty database in dir, from which servers are copied.
func initMySQL(ctx context.Context, root, dir string) error {
	argv, err := mysqld(root)
	if err != nil {
		return err
	}
	sql := fmt.Sprintf("CREATE USER 'root'@'%%' IDENTIFIED BY '%[1]s';\nGRANT ALL ON *.* TO 'root'@'%%' WITH GRANT OPTION;\n"+
		"ALTER USER 'root'@'localhost' IDENTIFIED BY '%[1]s';\n", adminPassword)
	file := dir + ".sql"
	if err := os.WriteFile(file, []byte(sql), 0o600); err != nil {
		return fmt.Errorf("write the accounts: %w", err)
	}
	defer func() { _ = os.Remove(file) }()
	initialize := step{argv: append(argv, "--datadir="+dir, "--initialize-insecure", "--init-file="+file, "--skip-log-bin",
		"--innodb-redo-log-capacity=64M"), fix: "remove " + root + " and run again"}
	if err := initialize.run(ctx); err != nil {
		return err
	}
	// Every server copied from here makes a UUID of its own.
	if err := os.Remove(filepath.Join(dir, "auto.cnf")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the server's identity: %w", err)
	}
	return nil
}
