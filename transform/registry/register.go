package registry

import (
	"context"
	"net/http"
	"strconv"

	"github.com/riferrei/srclient"

	"millrace/connector/pipeline"
)

// Register returns the id of the schema in its subject, and registers it when
// it is not there and auto.register.schemas allows it. The id has been read
// back: it stands for this schema. It asks once per subject and schema. The
// subject may exist or not; an interrupted call may be made again.
func (c *Client) Register(ctx context.Context, subject, schema string) (int, error) {
	s := Subject{subject, schema}
	return c.once(ctx, s, func() (int, error) {
		if !c.opts.AutoRegister {
			return c.lookup(ctx, s)
		}
		id, err := c.find(ctx, s)
		if err == nil {
			if err := c.verify(ctx, s, id); err != nil {
				return 0, err
			}
			return id, c.setLevel(ctx, subject)
		}
		r := request{what: "look up a schema", subject: subject}
		if !has(err, codeSubjectNotFound, codeVersionNotFound, codeSchemaNotFound) {
			return 0, c.refuse(r, err)
		}
		if err := c.setLevel(ctx, subject); err != nil {
			return 0, err
		}
		return c.create(ctx, s)
	})
}

// Lookup returns the id of a schema that must be registered. With
// use.latest.version it must be the latest version of its subject.
func (c *Client) Lookup(ctx context.Context, subject, schema string) (int, error) {
	s := Subject{subject, schema}
	return c.once(ctx, s, func() (int, error) { return c.lookup(ctx, s) })
}

// once waits for its turn and remembers the id that ask gives.
func (c *Client) once(ctx context.Context, s Subject, ask func() (int, error)) (int, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if id, ok := c.ids[s]; ok {
		return id, nil
	}
	id, err := ask()
	if err != nil {
		return 0, err
	}
	c.ids[s] = id
	return id, nil
}

// create registers the schema and reads it back.
func (c *Client) create(ctx context.Context, s Subject) (int, error) {
	r := request{what: "register a schema", subject: s.Name, edit: c.normalized}
	// The library reads the schema back by its id, past any cache.
	made, _, err := call(ctx, c, r, func(l *srclient.SchemaRegistryClient) (*srclient.Schema, error) {
		return l.CreateSchema(s.Name, s.Schema, srclient.Avro)
	})
	if err != nil {
		return c.notCreated(ctx, r, s, err)
	}
	if err := c.check(s, made.ID(), made.Schema()); err != nil {
		return 0, err
	}
	c.log.Info("schema registered", "subject", s.Name, "id", made.ID())
	return made.ID(), nil
}

// notCreated tells a schema that somebody else has registered in the meantime
// from one that is refused: some registries answer 409 to both.
func (c *Client) notCreated(ctx context.Context, r request, s Subject, err error) (int, error) {
	a := asAnswer(err)
	if a == nil || a.status != http.StatusConflict {
		return 0, c.refuse(r, err)
	}
	if id, again := c.find(ctx, s); again == nil {
		return id, c.verify(ctx, s, id)
	}
	level, levelErr := c.Level(ctx, s.Name)
	if levelErr != nil {
		return 0, levelErr
	}
	return 0, c.incompatible(s.Name, level, a.Error())
}

func (c *Client) lookup(ctx context.Context, s Subject) (int, error) {
	if c.opts.UseLatest && !c.opts.AutoRegister {
		return c.latest(ctx, s)
	}
	id, err := c.find(ctx, s)
	switch {
	case err == nil:
		return id, c.verify(ctx, s, id)
	case has(err, codeSubjectNotFound, codeVersionNotFound, codeSchemaNotFound):
		return 0, c.notRegistered(s.Name, "the schema is not registered, and "+c.key("auto.register.schemas")+"=false", err)
	}
	return 0, c.refuse(request{what: "look up a schema", subject: s.Name}, err)
}

// latest returns the id of the subject's latest version.
func (c *Client) latest(ctx context.Context, s Subject) (int, error) {
	r := request{what: "read the latest version", subject: s.Name}
	found, _, err := call(ctx, c, r, func(l *srclient.SchemaRegistryClient) (*srclient.Schema, error) {
		return l.GetLatestSchema(s.Name)
	})
	switch {
	case has(err, codeSubjectNotFound, codeVersionNotFound):
		return 0, c.notRegistered(s.Name, "the subject has no version, and "+c.key("auto.register.schemas")+"=false", err)
	case err != nil:
		return 0, c.refuse(r, err)
	}
	if equal, _, err := same(s.Schema, found.Schema()); err != nil || !equal {
		return 0, c.notRegistered(s.Name, "the declared schema is not the latest version, which "+c.key("use.latest.version")+"=true asks for", err)
	}
	return found.ID(), c.verify(ctx, s, found.ID())
}

func (c *Client) notRegistered(subject, what string, cause error) error {
	return &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "registry-not-registered", What: what, Where: subject, Cause: cause,
		Fix: "register it with `millrace schemas register`, or set " + c.key("auto.register.schemas") + "=true",
	}
}

// verify reads back what an id stands for.
func (c *Client) verify(ctx context.Context, s Subject, id int) error {
	r := request{what: "read a schema by its id", subject: s.Name}
	found, _, err := call(ctx, c, r, func(l *srclient.SchemaRegistryClient) (*srclient.Schema, error) {
		return l.GetSchema(id)
	})
	if err != nil {
		return c.refuse(r, err)
	}
	return c.check(s, id, found.Schema())
}

// check compares what an id stands for with what was asked for. Consumers
// would read garbage if it were another schema.
func (c *Client) check(s Subject, id int, text string) error {
	equal, told, err := same(s.Schema, text)
	if err == nil && equal && id > 0 {
		if !told {
			c.log.Warn("schema registry keeps other documentation or aliases of this schema", "subject", s.Name, "id", id)
		}
		return nil
	}
	return &pipeline.Refusal{
		Exit: pipeline.ExitRefused, Rule: "registry-schema-id", Where: s.Name, Cause: err,
		What: "the schema registry gives the id " + strconv.Itoa(id) + ", which stands for another schema",
		Fix:  "look at " + c.opts.URLs[0].String() + "/schemas/ids/" + strconv.Itoa(id) + "; a proxy or a restored registry may give ids of another one",
	}
}
