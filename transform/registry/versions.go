package registry

import (
	"context"
	"slices"

	"github.com/riferrei/srclient"
)

// Version is a registered version of a subject.
type Version struct {
	// Number counts a subject's versions, ID is the schema's.
	Number, ID int
	// Schema is the schema's text, complete in itself.
	Schema string
}

// Versions returns the versions of a subject, the oldest first, without those
// that were deleted; none for a subject that does not exist.
func (c *Client) Versions(ctx context.Context, subject string) ([]Version, error) {
	r := request{what: "list the versions", subject: subject}
	numbers, _, err := call(ctx, c, r, func(l *srclient.SchemaRegistryClient) ([]int, error) {
		return l.GetSchemaVersions(subject)
	})
	switch {
	case has(err, codeSubjectNotFound, codeVersionNotFound):
		return nil, nil
	case err != nil:
		return nil, c.refuse(r, err)
	}
	slices.Sort(numbers)
	var versions []Version
	for _, n := range numbers {
		found, err := c.version(ctx, subject, n)
		switch {
		case has(err, codeSubjectNotFound, codeVersionNotFound):
			continue // deleted in the meantime
		case err != nil:
			return nil, c.refuse(request{what: "read a version", subject: subject}, err)
		}
		versions = append(versions, Version{Number: n, ID: found.ID(), Schema: found.Schema()})
	}
	return versions, nil
}

func (c *Client) version(ctx context.Context, subject string, n int) (*srclient.Schema, error) {
	found, _, err := call(ctx, c, request{what: "read a version", subject: subject}, func(l *srclient.SchemaRegistryClient) (*srclient.Schema, error) {
		return l.GetSchemaByVersion(subject, n)
	})
	return found, err
}
