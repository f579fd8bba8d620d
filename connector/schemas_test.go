package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"millrace/connector/pipeline"
)

// inTree writes files under a folder.
func inTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// command runs the program's main function.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var o, e bytes.Buffer
	err := run(t.Context(), args, outside{stdout: &o, stderr: &e})
	return exitCode(err), o.String(), e.String()
}

const (
	paidV1 = `{"type":"record","name":"Paid","namespace":"v","fields":[{"name":"id","type":"long"}]}`
	paidV2 = `{"type":"record","name":"Paid","namespace":"v","fields":[{"name":"id","type":"long"},{"name":"by","type":"string","default":""}]}`
	paidV3 = `{"type":"record","name":"Paid","namespace":"v","fields":[{"name":"number","type":"long"}]}`
	sentV1 = `{"type":"record","name":"Sent","namespace":"v","fields":[]}`
)

func TestCheckTwoFolders(t *testing.T) {
	dir := t.TempDir()
	inTree(t, dir, map[string]string{
		"old/order/Paid.avsc": paidV1, "old/gone/Sent.avsc": sentV1,
		"good/order/Paid.avsc": paidV2, "good/order/Sent.avsc": strings.Replace(sentV1, `"v"`, `"w"`, 1), "good/gone/Sent.avsc": sentV1,
		"bad/order/Paid.avsc": paidV3,
	})
	code, out, _ := command(t, "schemas", "check", "--schemas", dir+"/good", "--against", dir+"/old")
	if code != 0 || !strings.Contains(out, "order: ok") || !strings.Contains(out, "w.Sent is new: consumers first") {
		t.Errorf("exit %d: %s", code, out)
	}
	report := filepath.Join(dir, "report.xml")
	code, out, _ = command(t, "schemas", "check", "--schemas", dir+"/bad", "--against", dir+"/old", "--junit", report)
	for _, want := range []string{
		"gone: REFUSED", "its folder or file is gone", "order: REFUSED",
		"registry: consumers with the new millrace.OrderEnvelope cannot read what the earlier file wrote: at $.payload.number, the earlier file does not write the field number, and the new schema has no default for it",
		"records: consumers with the new v.Paid cannot read what the earlier file wrote: at $.number",
		"records: consumers that still have the earlier file of v.Paid cannot read what is written from now on: at $.id, the new schema does not write the field id, and the earlier file has no default for it",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
	if code != pipeline.ExitConfig {
		t.Errorf("exit %d", code)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var parsed junitSuites
	if err := xml.Unmarshal(text, &parsed); err != nil || parsed.Tests != 2 || parsed.Failures != 2 || len(parsed.Suites) != 1 || !strings.Contains(parsed.Suites[0].Cases[1].Failure.Text, "$.number") {
		t.Errorf("%v: %s", err, text)
	}
	code, out, _ = command(t, "schemas", "check", "--schemas", dir+"/bad", "--against", dir+"/old", "--json", "--compatibility", "none")
	var verdicts []verdict
	if err := json.Unmarshal([]byte(out), &verdicts); err != nil || code != pipeline.ExitConfig || len(verdicts) != 2 || len(verdicts[1].Records) != 0 || len(verdicts[1].Registry) != 1 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
}

func TestCheckRevisions(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "user.name=n", "-c", "user.email=e@example.org"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	git("init", "-q", "-b", "trunk")
	inTree(t, dir, map[string]string{"app/schemas/order/Paid.avsc": paidV1, "README": "no schema"})
	git("add", ".")
	git("commit", "-qm", "one")
	inTree(t, dir, map[string]string{"app/schemas/order/Paid.avsc": paidV2})
	git("commit", "-qam", "two")
	inTree(t, dir, map[string]string{"app/schemas/order/Paid.avsc": paidV3})
	folder := dir + "/app/schemas"
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--against", "trunk"}, pipeline.ExitConfig, "order: REFUSED"},
		{[]string{"--against", "trunk~1", "--at", "trunk"}, 0, "order: ok"},
		{[]string{"--against", "HEAD", "--at", "HEAD"}, 0, "order: ok"},
		{[]string{"--against", "nowhere"}, pipeline.ExitConfig, "nowhere is no folder, and Git does not give it"},
		{[]string{"--against", "--output=x"}, pipeline.ExitConfig, "is no folder and no revision"},
		{[]string{"--against", "trunk", "--compatibility", "mostly"}, pipeline.ExitConfig, "want one of"},
	} {
		code, out, problems := command(t, append([]string{"schemas", "check", "--schemas", folder}, c.args...)...)
		if code != c.code || !strings.Contains(out+problems, c.want) {
			t.Errorf("%v: exit %d\n%s%s", c.args, code, out, problems)
		}
	}
}

func TestListFolder(t *testing.T) {
	code, out, _ := command(t, "schemas", "list", "--schemas", "../schemas")
	if code != 0 || !strings.Contains(out, "OrderPlaced") || !strings.Contains(out, "shop.order.OrderPlaced") || !strings.Contains(out, "order/OrderPlaced.avsc") {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, _, problems := command(t, "schemas"); code != pipeline.ExitConfig || !strings.Contains(problems, "list, check or register") {
		t.Errorf("exit %d: %s", code, problems)
	}
}

// renderRow runs render on the example configuration of MySQL.
func renderRow(t *testing.T, config, row string, more ...string) (int, []rendered, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "row.json")
	if err := os.WriteFile(file, []byte(row), 0o600); err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	args := append([]string{"render", examples + "/worker.properties", config, "--row", file}, more...)
	err := run(t.Context(), args, outside{env: exampleEnv, stdout: &o, stderr: &e})
	var list []rendered
	if err == nil {
		if err := json.Unmarshal(o.Bytes(), &list); err != nil {
			t.Fatalf("%v: %s", err, o.String())
		}
	}
	return exitCode(err), list, e.String()
}

func TestRenderEnvelope(t *testing.T) {
	code, list, problems := renderRow(t, examples+"/outbox-mysql.json", `{
		"table": "shop.outbox", "committed_at": "2024-02-29T10:30:00Z", "columns": {"id": "BINARY(16)"},
		"row": {"id": "123e4567e89b12d3a456426614174000", "aggregatetype": "order", "aggregateid": 1001, "type": "OrderPaid",
			"payload": {"order_id": 1001, "payment_id": "p-7", "method": "card", "amount": {"amount_minor": 1999, "currency": "EUR"}}}}`,
		"--partitions", "6")
	if code != 0 || len(list) != 1 {
		t.Fatalf("exit %d: %s", code, problems)
	}
	r := list[0]
	if r.Topic != "outbox.event.order" || r.Key != "1001" || r.Partition < 0 || r.Partition > 5 || r.Subject != "outbox.event.order-value" || len(r.Headers) != 2 || r.Headers[1].Key != "eventType" {
		t.Errorf("have %+v", r)
	}
	value := r.Value.(map[string]any)
	payload := value["payload"].(map[string]any)["shop.order.OrderPaid"]
	if value["id"] != "123e4567-e89b-12d3-a456-426614174000" || value["occurred_at"] != "2024-02-29T10:30:00Z" || payload.(map[string]any)["method"] != "card" {
		t.Errorf("have %v", value)
	}
	if !strings.HasPrefix(*r.ValueHex, "0000000000"+"48") {
		t.Errorf("have %s", *r.ValueHex)
	}
}

func TestRenderRefusals(t *testing.T) {
	for row, want := range map[string]struct {
		code int
		text string
	}{
		`{"table":"shop.outbox","row":{"id":"a","aggregatetype":"order","aggregateid":"1","type":"OrderPaid","payload":{"order_id":"x"}}}`: {pipeline.ExitBadData, "$.order_id"},
		`{"table":"shop.outbox","row":{"id":"a","aggregatetype":"order","aggregateid":"1","type":"Nothing","payload":{}}}`:                 {pipeline.ExitBadData, "OrderPaid"},
		`{"table":"shop.outbox","row":{"id":"a"}}`:                             {pipeline.ExitConfig, "payload is not a valid field name"},
		`{"table":"outbox","row":{"id":"a"}}`:                                  {pipeline.ExitConfig, "database.table"},
		`{"table":"shop.outbox","rows":{}}`:                                    {pipeline.ExitConfig, "rows"},
		`{"table":"shop.outbox","row":{"id":"a"},"columns":{"id":"HYPERINT"}}`: {pipeline.ExitConfig, "HYPERINT"},
		`{"table":"shop.outbox","row":{"id":"a"},"columns":{"id":"INT"}}`:      {pipeline.ExitConfig, "no value of this column"},
		`[]`: {pipeline.ExitConfig, "there is none"},
	} {
		code, _, problems := renderRow(t, examples+"/outbox-mysql.json", row)
		if code != want.code || !strings.Contains(problems, want.text) {
			t.Errorf("%s: exit %d: %s", row, code, problems)
		}
	}
}

func TestRenderRouter(t *testing.T) {
	dir := t.TempDir()
	inTree(t, dir, map[string]string{"router.json": `{"name":"r","config":{"connector.class":"io.debezium.connector.mysql.MySqlConnector",
		"database.hostname":"h","database.user":"u","database.password":"p","database.server.id":"7","topic.prefix":"shop","table.include.list":"shop.outbox",
		"snapshot.mode":"no_data","transforms":"outbox","transforms.outbox.type":"io.debezium.transforms.outbox.EventRouter",
		"key.converter":"org.apache.kafka.connect.storage.StringConverter","value.converter":"org.apache.kafka.connect.storage.StringConverter"}}`})
	code, list, problems := renderRow(t, dir+"/router.json", `[{"table":"shop.outbox","primary_key":["id"],"row":{"id":"a","aggregatetype":"order","aggregateid":"1","type":"OrderPaid","payload":{"x":1}}},
		{"table":"shop.outbox","op":"delete","row":{"id":"a","aggregatetype":"order","aggregateid":"1","type":"OrderPaid","payload":null}}]`)
	if code != 0 || len(list) != 1 || list[0].Value != `{"x":1}` || list[0].Key != "1" || *list[0].ValueHex != "7b2278223a317d" {
		t.Errorf("exit %d, %+v: %s", code, list, problems)
	}
}
