package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"millrace/connector/binlog"
	"millrace/connector/config"
	"millrace/connector/kafka"
	"millrace/connector/pipeline"
)

func sqlCommand(out outside) *cobra.Command {
	var flavor string
	c := &cobra.Command{
		Use:   "sql [worker.properties connector.json …]",
		Short: "Print the outbox table, server settings, grants and Kafka ACLs to set up",
		Long: `Prints what the database and Kafka need: the outbox table with its indexes, the server's settings, a user with the
least grants, and ACLs. With configuration files it is for their tables, users and topics, else an example.`,
		Example: `  millrace sql --flavor mariadb
  millrace sql worker.properties outbox.json`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return files(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return printExample(pipeline.Flavor(flavor), out)
			}
			s, err := load(args, out.env)
			if err != nil {
				return err
			}
			for _, t := range s.tasks {
				topics, err := t.eventTopics(c.Context(), out)
				if err != nil {
					return err
				}
				if dead := t.transform.Bad.Topic; dead != "" {
					topics = append(topics, dead)
				}
				if _, err := fmt.Fprintf(out.stdout, "-- connector %s\n%s\n%s\n", t.name, binlog.SQL(t.source.Flavor, t.source), kafka.ACLs(t.sink, topics)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&flavor, "flavor", "mysql", "mysql or mariadb, without configuration files")
	return c
}

// eventTopics returns the topics that are known from the files. Whoever runs
// this need not have the schemas at hand; it is said what that leaves out.
func (t *task) eventTopics(ctx context.Context, out outside) ([]string, error) {
	known := *t
	if path := known.transform.SchemaPath; path != "" {
		if _, err := os.Stat(path); err != nil {
			fmt.Fprintf(out.stderr, "millrace: %v: event topics are those of millrace.aggregates alone\n", err)
			known.transform.SchemaPath = ""
		}
	}
	tr, err := known.offlineTransformer(ctx, &offlineRegistry{})
	if err != nil {
		return nil, err
	}
	return tr.Topics(), nil
}

// printExample prints what an outbox with all defaults needs.
func printExample(flavor pipeline.Flavor, out outside) error {
	if flavor != pipeline.MySQL && flavor != pipeline.MariaDB {
		return &usageError{fmt.Errorf("--flavor: want mysql or mariadb, have %s", flavor)}
	}
	var problems config.Problems
	f := &config.File{Path: "example"}
	for key, value := range map[string]string{
		"name": "outbox", "bootstrap.servers": "localhost:9092", "database.hostname": "localhost", "database.user": "millrace",
		"database.password": "secret", "database.server.id": "5400", "table.include.list": "inventory.outbox",
	} {
		f.Set(key, value, "example")
	}
	view := config.NewView(f, &config.File{Path: "example"}, &problems)
	_, err := fmt.Fprintf(out.stdout, "%s\n%s", binlog.SQL(flavor, binlog.ReadOptions(view, flavor)), kafka.ACLs(kafka.ReadOptions(view), nil))
	return err
}
