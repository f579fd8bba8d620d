package services

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// MySQLPrefix returns the folder with MySQL's programs, which it installs when
// they are missing: Debian's unstable release has the only MySQL packages that
// the Debian archive holds.
func MySQLPrefix(ctx context.Context) (string, error) {
	return install(ctx, "mysql", selection{suite: "sid", packages: []string{"mysql-server-core", "mysql-client-core"}}.unpack)
}

// MySQLOnPath returns the path of a MySQL server of version 8.0 or later among
// the machine's own programs, or nothing. MariaDB installs a mysqld, too.
func MySQLOnPath(ctx context.Context) string {
	program, err := exec.LookPath("mysqld")
	if err != nil || mysqlVersion(ctx, program) == "" {
		return ""
	}
	return program
}

var mysqlVersions = regexp.MustCompile(`Ver (\d+)\.(\d+)\.(\d+)`)

// mysqlVersion returns the version of a MySQL server, nothing when it is too
// old or another program.
func mysqlVersion(ctx context.Context, program string) string {
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	m := mysqlVersions.FindSubmatch(out)
	if err != nil || m == nil || bytes.Contains(out, []byte("MariaDB")) {
		return ""
	}
	if major, err := strconv.Atoi(string(m[1])); err != nil || major < 8 {
		return ""
	}
	return string(m[0][len("Ver "):])
}

// StartMySQL starts a MySQL with GTIDs, row format and full row metadata. The
// caller closes it.
func StartMySQL(ctx context.Context, o DatabaseOptions) (*Database, error) {
	return startDatabase(ctx, FlavorMySQL, o, func(d *Database) (string, func() ([]string, error), error) {
		argv, name, err := mysqld(ctx, o.Program)
		if err != nil {
			return "", nil, err
		}
		template, err := install(ctx, name, func(ctx context.Context, dir string) error {
			return initMySQL(ctx, argv, dir)
		})
		words := func() ([]string, error) {
			return slices.Concat(argv, []string{"--server-id=" + strconv.Itoa(d.Port), "--gtid-mode=ON",
				"--enforce-gtid-consistency=ON", "--mysqlx=OFF", "--loose-innodb-redo-log-capacity=64M"}), nil
		}
		return template, words, err
	})
}

// mysqld returns the words that run a server, and the name under which an empty
// database made by it is kept. Without a program it is the private prefix's.
func mysqld(ctx context.Context, program string) (argv []string, template string, err error) {
	user := "--user=" + strconv.Itoa(os.Getuid())
	if program != "" {
		return []string{program, "--no-defaults", user}, "mysql-data-" + mysqlVersion(ctx, program), nil
	}
	root, err := MySQLPrefix(ctx)
	if err != nil {
		return nil, "", err
	}
	argv, err = prefix(root).command("usr/sbin/mysqld", "mysql/private")
	if err != nil {
		return nil, "", err
	}
	share := filepath.Join(root, "usr/share/mysql")
	return append(argv, "--no-defaults", user, "--basedir="+filepath.Join(root, "usr"),
		"--lc-messages-dir="+share, "--character-sets-dir="+filepath.Join(share, "charsets"),
		"--plugin-dir="+filepath.Join(root, "usr/lib/mysql/plugin")), "mysql-data-1", nil
}

// initMySQL makes an empty database in dir, from which servers are copied.
func initMySQL(ctx context.Context, argv []string, dir string) error {
	sql := fmt.Sprintf("CREATE USER 'root'@'%%' IDENTIFIED BY '%[1]s';\nGRANT ALL ON *.* TO 'root'@'%%' WITH GRANT OPTION;\n"+
		"ALTER USER 'root'@'localhost' IDENTIFIED BY '%[1]s';\n", adminPassword)
	file := dir + ".sql"
	if err := os.WriteFile(file, []byte(sql), 0o600); err != nil {
		return fmt.Errorf("write the accounts: %w", err)
	}
	defer func() { _ = os.Remove(file) }()
	initialize := step{argv: slices.Concat(argv, []string{"--datadir=" + dir, "--initialize-insecure", "--init-file=" + file,
		"--skip-log-bin", "--loose-innodb-redo-log-capacity=64M"}), fix: "remove " + filepath.Join(CacheDir(), "mysql") + " and run again"}
	if err := initialize.run(ctx); err != nil {
		return err
	}
	// Every server copied from here makes a UUID of its own.
	if err := os.Remove(filepath.Join(dir, "auto.cnf")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the server's identity: %w", err)
	}
	return nil
}

// SQLClient returns the words that run a server's own command line client as
// its administrator, who gives the password in the variable MYSQL_PWD.
func SQLClient(ctx context.Context, d *Database) ([]string, error) {
	name, install, private := "mysql", MySQLPrefix, []string{"mysql/private"}
	if d.Flavor == FlavorMariaDB {
		name, install, private = "mariadb", MariaDBPrefix, nil
	}
	argv := []string{name, "--no-defaults"}
	if _, err := exec.LookPath(name); err != nil {
		root, err := install(ctx)
		if err != nil {
			return nil, err
		}
		if argv, err = prefix(root).command("usr/bin/"+name, private...); err != nil {
			return nil, err
		}
		argv = append(argv, "--no-defaults", "--character-sets-dir="+filepath.Join(root, "usr/share/mysql/charsets"))
	}
	return append(argv, "--user="+d.User, "--host="+d.Host, "--port="+strconv.Itoa(d.Port)), nil
}
