package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/riferrei/srclient"

	"millrace/connector/pipeline"
)

func escape(subject string) string { return url.PathEscape(subject) }

// DryRun asks for every subject whether its schema is registered or could be,
// and changes nothing. A subject that does not exist yet is a pass. All schemas
// that are refused come back in one *pipeline.Refusal, with the level and what
// the registry says. It also warns of levels that do not fit an envelope.
func (c *Client) DryRun(ctx context.Context, subjects []Subject) error {
	var refused []string
	var problems []error
	exit := pipeline.ExitConfig
	for _, s := range subjects {
		err := c.dryRun(ctx, s)
		var r *pipeline.Refusal
		switch {
		case err == nil:
			continue
		case !errors.As(err, &r) || !perSubject[r.Rule]:
			return err // it would be the same for the next
		}
		refused = append(refused, s.Name)
		problems = append(problems, err)
		exit = r.Exit
	}
	switch len(problems) {
	case 0:
		return nil
	case 1:
		return problems[0]
	}
	return &pipeline.Refusal{
		Exit: exit, Rule: "registry-refused", Where: strings.Join(refused, ", "), Cause: errors.Join(problems...),
		What: fmt.Sprintf("the schema registry refuses %d of %d schemas, so none is registered", len(problems), len(subjects)),
		Fix:  "see each of them",
	}
}

// perSubject are the rules of refusals that say nothing about other subjects.
var perSubject = map[string]bool{
	"registry-incompatible": true, "registry-schema-invalid": true, "registry-read-only": true, "registry-not-registered": true,
	"registry-schema-id": true, "registry-acl": true,
}

func (c *Client) dryRun(ctx context.Context, s Subject) error {
	if !c.opts.AutoRegister {
		_, err := c.Lookup(ctx, s.Name, s.Schema)
		return err
	}
	_, err := c.find(ctx, s)
	if err == nil {
		return c.checkLevel(ctx, s.Name)
	}
	if !has(err, codeSubjectNotFound, codeVersionNotFound, codeSchemaNotFound) {
		return c.refuse(request{what: "look up a schema", subject: s.Name}, err)
	}
	known := !has(err, codeSubjectNotFound)
	if err := c.checkMode(ctx, s.Name); err != nil {
		return err
	}
	if err := c.checkLevel(ctx, s.Name); err != nil || !known {
		return err
	}
	return c.compatible(ctx, s)
}

// find looks the schema up in its subject. An error may be an *answer.
func (c *Client) find(ctx context.Context, s Subject) (id int, err error) {
	r := request{what: "look up a schema", subject: s.Name, edit: c.normalized}
	found, _, err := call(ctx, c, r, func(l *srclient.SchemaRegistryClient) (*srclient.Schema, error) {
		return l.LookupSchema(s.Name, s.Schema, srclient.Avro)
	})
	if err != nil {
		return 0, err
	}
	return found.ID(), nil
}

// normalized adds normalize=true to a request with a schema.
func (c *Client) normalized(u *url.URL) {
	if c.opts.Normalize && u.RawQuery == "" {
		u.RawQuery = "normalize=true"
	}
}

// compatible asks whether the schema may follow the subject's versions: all of
// them where the level is transitive.
func (c *Client) compatible(ctx context.Context, s Subject) error {
	r := request{what: "check compatibility", subject: s.Name, edit: func(u *url.URL) {
		// The library asks about one version; without a version the
		// registry asks about all that the level names.
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
		u.RawQuery = "verbose=true"
		if c.opts.Normalize {
			u.RawQuery += "&normalize=true"
		}
	}}
	ok, x, err := c.askCompatible(ctx, r, s, "")
	if a := asAnswer(err); a != nil && a.code/100 != http.StatusNotFound && (a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed) {
		// A registry without that question knows the one about the latest.
		ok, x, err = c.askCompatible(ctx, r, s, "latest")
	}
	switch {
	case has(err, codeSubjectNotFound, codeVersionNotFound):
		return nil // there is no version, for example after all were deleted
	case err != nil:
		return c.refuse(r, err)
	case ok:
		return nil
	}
	level, err := c.Level(ctx, s.Name)
	if err != nil {
		return err
	}
	return c.incompatible(s.Name, level, messages(x.body))
}

func (c *Client) askCompatible(ctx context.Context, r request, s Subject, version string) (bool, *exchange, error) {
	return call(ctx, c, r, func(l *srclient.SchemaRegistryClient) (bool, error) {
		return l.IsSchemaCompatible(s.Name, s.Schema, version, srclient.Avro)
	})
}

// messages returns what a verbose check says; not all registries say anything.
func messages(body []byte) string {
	var m struct {
		Messages []string `json:"messages"`
	}
	if json.Unmarshal(body, &m) != nil {
		return ""
	}
	return strings.Join(m.Messages, "; ")
}

// meanings say what a level promises.
var meanings = map[string]string{
	Backward:           "a consumer with this schema could not read all that the latest version wrote",
	BackwardTransitive: "a consumer with this schema could not read all that earlier versions wrote",
	Forward:            "a consumer with the latest version could not read what this schema writes",
	ForwardTransitive:  "a consumer with an earlier version could not read what this schema writes",
	Full:               "this schema and the latest version can't read each other",
	FullTransitive:     "this schema and an earlier version can't read each other",
}

// incompatible is the refusal of a schema at a level.
func (c *Client) incompatible(subject, level, details string) error {
	what := "the schema does not follow the registered versions at level " + level
	if m := meanings[level]; m != "" {
		what += ": " + m
	}
	r := &pipeline.Refusal{
		Exit: pipeline.ExitConfig, Rule: "registry-incompatible", What: what, Where: subject,
		Fix: "take the change back or give the field a default (`millrace schemas check` says which change breaks whom)",
	}
	if level != None && level != BackwardTransitive {
		r.Fix += "; for a new event type set the level that envelopes want: " + c.put("config", subject, `{"compatibility":"`+BackwardTransitive+`"}`)
	}
	if details != "" {
		r.Cause = errors.New(details)
	}
	return r
}

// Level returns the compatibility level of a subject: its own, else that of the
// whole registry. The subject need not exist.
func (c *Client) Level(ctx context.Context, subject string) (string, error) {
	r := request{what: "read the compatibility level", subject: subject}
	level, _, err := call(ctx, c, r, func(l *srclient.SchemaRegistryClient) (*srclient.CompatibilityLevel, error) {
		return l.GetCompatibilityLevel(subject, true)
	})
	if has(err, codeSubjectNotFound, codeLevelNotFound) {
		level, _, err = call(ctx, c, r, func(l *srclient.SchemaRegistryClient) (*srclient.CompatibilityLevel, error) {
			return l.GetGlobalCompatibilityLevel()
		})
	}
	if err != nil {
		return "", c.refuse(r, err)
	}
	return level.String(), nil
}

// checkLevel warns, once per subject, of a level that does not fit an
// envelope: its union of events grows, which only readers that come after it
// can follow, and all earlier events stay readable.
func (c *Client) checkLevel(ctx context.Context, subject string) error {
	if c.opts.levelOf(subject) != "" {
		return nil // it will be set
	}
	level, err := c.Level(ctx, subject)
	if err != nil || level == BackwardTransitive {
		return err
	}
	c.mu.Lock()
	told := c.told[subject]
	c.told[subject] = true
	c.mu.Unlock()
	if told {
		return nil
	}
	effect := "a new event type may be refused"
	switch level {
	case None:
		effect = "any change is taken"
	case Backward:
		effect = "versions before the latest are not compared"
	}
	c.log.Warn("compatibility level does not fit an envelope", "subject", subject, "level", level, "want", BackwardTransitive,
		"effect", effect, "fix", "millrace.schemas.envelope.compatibility="+BackwardTransitive)
	return nil
}

// checkMode refuses when a new schema would not be taken. Registries without
// modes take them.
func (c *Client) checkMode(ctx context.Context, subject string) error {
	r := request{what: "read the mode", subject: subject}
	mode, err := c.mode(ctx, r)
	switch {
	case asAnswer(err) != nil:
		return nil //nolint:nilerr // there is no mode for it, or none at all
	case err != nil:
		return err
	case strings.HasPrefix(mode, "READONLY"):
		return c.readOnly(subject, mode, nil)
	}
	return nil
}

// mode asks what the library can't: GET /mode/{subject}.
func (c *Client) mode(ctx context.Context, r request) (string, error) {
	var m struct {
		Mode string `json:"mode"`
	}
	// A call for a level differs only in its path.
	r.edit = func(u *url.URL) {
		u.Path = "/mode/" + r.subject
		u.RawPath = "/mode/" + escape(r.subject)
	}
	_, x, err := call(ctx, c, r, func(l *srclient.SchemaRegistryClient) (*srclient.CompatibilityLevel, error) {
		return l.GetCompatibilityLevel(r.subject, true)
	})
	if err == nil {
		err = json.Unmarshal(x.body, &m)
	}
	return m.Mode, err
}

// setLevel gives the subject the configured level.
func (c *Client) setLevel(ctx context.Context, subject string) error {
	want := c.opts.levelOf(subject)
	if want == "" {
		return nil
	}
	level, err := c.Level(ctx, subject)
	if err != nil || level == want {
		return err
	}
	r := request{what: "set the compatibility level", subject: subject}
	_, _, err = call(ctx, c, r, func(l *srclient.SchemaRegistryClient) (*srclient.CompatibilityLevel, error) {
		return l.ChangeSubjectCompatibilityLevel(subject, srclient.CompatibilityLevel(want))
	})
	if err != nil {
		return c.refuse(r, err)
	}
	c.log.Info("compatibility level set", "subject", subject, "was", level, "level", want)
	return nil
}
