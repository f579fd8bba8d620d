package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"millrace/connector/pipeline"
)

// healthCommand asks a running process for its health: a container without a
// shell has no other way.
func healthCommand(out outside) *cobra.Command {
	var url string
	c := &cobra.Command{
		Use:    "healthcheck",
		Short:  "Ask a running millrace whether it is healthy",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), 5*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return &usageError{fmt.Errorf("--url: %w", err)}
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("ask for health: %w", err)
			}
			defer resp.Body.Close() //nolint:errcheck // only its status matters
			if resp.StatusCode != http.StatusOK {
				return &pipeline.Refusal{Exit: pipeline.ExitRefused, Rule: "health", What: resp.Status, Where: url, Fix: "ask /readyz beside it which connector has failed, and look into the log"}
			}
			_, err = fmt.Fprintln(out.stdout, "ok")
			return err
		},
	}
	c.Flags().StringVar(&url, "url", "http://127.0.0.1:8083/healthz", "the process's address")
	return c
}
