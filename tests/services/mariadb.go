package services

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// MariaDBPrefix returns the folder with MariaDB's programs, which it installs
// when they are missing: the packages of the machine's own Debian release.
// mariadb-server is taken alone, for its plug-ins.
func MariaDBPrefix(ctx context.Context) (string, error) {
	return install(ctx, "mariadb", selection{
		packages: []string{"mariadb-server-core", "mariadb-client-core"}, alone: []string{"mariadb-server"},
	}.unpack)
}

// StartMariaDB starts a MariaDB with strict GTIDs, row format and full row
// metadata. The caller closes it.
func StartMariaDB(ctx context.Context, o DatabaseOptions) (*Database, error) {
	return startDatabase(ctx, FlavorMariaDB, o, func(d *Database) (string, func() ([]string, error), error) {
		root, err := MariaDBPrefix(ctx)
		if err != nil {
			return "", nil, err
		}
		template, err := install(ctx, "mariadb-data-2", func(ctx context.Context, dir string) error {
			return initMariaDB(ctx, root, dir)
		})
		words := func() ([]string, error) {
			argv, err := mariadbd(root)
			// The character set is that of Debian's own configuration file.
			return append(argv, "--server-id="+strconv.Itoa(d.Port), "--gtid-strict-mode=ON",
				"--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci"), err
		}
		return template, words, err
	})
}

// mariadbd returns the words that run the server with the settings that a
// private prefix needs.
func mariadbd(root string) ([]string, error) {
	argv, err := prefix(root).command("usr/sbin/mariadbd")
	if err != nil {
		return nil, err
	}
	share := filepath.Join(root, "usr/share/mysql")
	return append(argv, "--no-defaults", "--user="+strconv.Itoa(os.Getuid()), "--basedir="+filepath.Join(root, "usr"),
		"--lc-messages-dir="+share, "--character-sets-dir="+filepath.Join(share, "charsets"),
		"--plugin-dir="+filepath.Join(root, "usr/lib/mysql/plugin")), nil
}

// initMariaDB makes an empty database in dir, from which servers are copied.
// It feeds the server the files that mariadb-install-db does, and drops the
// accounts that would hide 'user'@'%' from local connections.
func initMariaDB(ctx context.Context, root, dir string) error {
	argv, err := mariadbd(root)
	if err != nil {
		return err
	}
	// The tables' data refer to this variable for root's account.
	script := bytes.NewBufferString("SET @auth_root_socket = NULL;\nCREATE DATABASE mysql;\nUSE mysql;\n")
	for _, file := range []string{"mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql",
		"maria_add_gis_sp_bootstrap.sql", "mysql_sys_schema.sql"} {
		text, err := os.ReadFile(filepath.Join(root, "usr/share/mysql", file))
		if err != nil {
			return fmt.Errorf("read the system tables: %w", err)
		}
		script.Write(text)
		script.WriteByte('\n')
	}
	fmt.Fprintf(script, "FLUSH PRIVILEGES;\nUSE mysql;\nDELETE FROM global_priv WHERE User = '' OR User = 'root' AND Host <> 'localhost';\nFLUSH PRIVILEGES;\n"+
		"CREATE USER 'root'@'%%' IDENTIFIED BY '%[1]s';\nGRANT ALL ON *.* TO 'root'@'%%' WITH GRANT OPTION;\n"+
		"ALTER USER 'root'@'localhost' IDENTIFIED BY '%[1]s';\n", adminPassword)
	argv = append(argv, "--bootstrap", "--datadir="+dir, "--skip-log-bin", "--log-warnings=0", "--enforce-storage-engine=",
		"--default-storage-engine=InnoDB", "--max-allowed-packet=16M", "--net-buffer-length=16K")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = script
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the system tables: %w\n%s\n  fix: remove %s and run again", err, lastLines(out, 15), root)
	}
	return nil
}
