package schemas_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/linkedin/goavro/v2"

	"millrace/connector/pipeline"
	"millrace/schemas"
)

func TestEmbeddedCatalogue(t *testing.T) {
	c, err := schemas.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, a := range c.Aggregates() {
		for _, e := range a.Events {
			have = append(have, a.Name+"/"+e.Type+"="+e.Name)
			if _, err := goavro.NewCodec(e.Text); err != nil {
				t.Errorf("%s is no Avro schema: %v", e.File, err)
			}
		}
	}
	want := "customer/CustomerRegistered=shop.customer.CustomerRegistered " +
		"order/OrderCancelled=shop.order.OrderCancelled order/OrderPaid=shop.order.OrderPaid " +
		"order/OrderPlaced=shop.order.OrderPlaced order/OrderShipped=shop.order.OrderShipped"
	if got := strings.Join(have, " "); got != want {
		t.Errorf("have %s\nwant %s", got, want)
	}
}

// The envelope's text is registered, so it may change only on purpose: set
// UPDATE_GOLDEN after reading the difference.
func TestEnvelopeGolden(t *testing.T) {
	c, err := schemas.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	for _, aggregate := range []string{"order", "customer", "without-folder"} {
		text, err := c.Envelope(aggregate, "shop.events")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := goavro.NewCodec(text); err != nil {
			t.Errorf("%s: no Avro schema: %v", aggregate, err)
		}
		file := filepath.Join("testdata", aggregate+".envelope.json")
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(file, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if text+"\n" != string(want) {
			t.Errorf("%s: have %s\nwant %s", aggregate, text, want)
		}
	}
}

func TestEnvelopeName(t *testing.T) {
	for in, want := range map[string]string{
		"order": "OrderEnvelope", "order-line": "OrderLineEnvelope", "Order": "OrderEnvelope",
		"order_line": "Order_lineEnvelope", "shop.order.v1": "ShopOrderV1Envelope",
		"3d-model": "_3dModelEnvelope", "größe": "Gru00f6u00dfEEnvelope", "": "Envelope",
	} {
		if got := schemas.EnvelopeName(in); got != want {
			t.Errorf("%q: have %s, want %s", in, got, want)
		}
	}
}

func TestLoadFolders(t *testing.T) {
	c, err := schemas.Load(fstest.MapFS{
		"order/OrderPlaced.avsc": file(`{"type":"record","name":"OrderPlaced","namespace":"a","millrace.retired":true,
			"fields":[{"name":"x","type":"long","millrace.columns":["old","new"]}]}`),
		"order/order.moved.avsc":  file(`{"type":"record","name":"Moved","namespace":"a","fields":[]}`),
		"order/README.md":         file(`not a schema`),
		"empty/.gitkeep":          file(``),
		"..data/order/Other.avsc": file(`not read`),
		"catalog.go":              file(`not a schema either`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Aggregates()); n != 2 || c.Aggregates()[0].Name != "empty" {
		t.Fatalf("have %+v", c.Aggregates())
	}
	order, known := c.Aggregate("order")
	if !known || len(order.Events) != 2 || !order.Events[0].Retired || order.Events[1].Type != "order.moved" {
		t.Errorf("have %+v", order)
	}
	if want := `{"type":"record","name":"OrderPlaced","namespace":"a","fields":[{"name":"x","type":"long"}]}`; order.Events[0].Text != want {
		t.Errorf("have %s\nwant %s", order.Events[0].Text, want)
	}
	if _, known := c.Aggregate("customer"); known {
		t.Error("an aggregate without a folder is known")
	}
}

func TestLoadProblems(t *testing.T) {
	const good = `{"type":"record","name":"Good","namespace":"a","fields":[]}`
	cases := map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"syntax": {
			fstest.MapFS{"o/A.avsc": file("{\n\"type\": \"record\",\n\"name\" \"A\"}")},
			`o/A.avsc:3: not JSON: invalid character '"' after object key`,
		},
		"cut off": {
			fstest.MapFS{"o/A.avsc": file("{\n\"type\":")}, "o/A.avsc:2: the file ends in the middle of a JSON value",
		},
		"two values": {
			fstest.MapFS{"o/Good.avsc": file(good + "\n{}")}, "o/Good.avsc:2: text after the end of the schema",
		},
		"double member": {
			fstest.MapFS{"o/A.avsc": file("{\"type\":\"record\",\n\"type\":\"enum\"}")}, `o/A.avsc:2: the name "type" stands twice in one object`,
		},
		"no namespace": {
			fstest.MapFS{"o/A.avsc": file(`{"type":"record","name":"A","fields":[]}`)}, "o/A.avsc:1: A has no namespace",
		},
		"other name": {
			fstest.MapFS{"o/A.avsc": file(good)}, "o/A.avsc:1: the record is named Good: name it as its file, A",
		},
		"not a record": {
			fstest.MapFS{"o/A.avsc": file(`{"type":"enum","name":"A","namespace":"a","symbols":["X"]}`)}, "o/A.avsc:1: an event is a record",
		},
		"unknown type": {
			fstest.MapFS{"o/A.avsc": file("{\"type\":\"record\",\"name\":\"A\",\"namespace\":\"a\",\"fields\":[\n{\"name\":\"m\",\n\"type\":\"Money\"}]}")},
			`o/A.avsc:3: unknown type "Money": declare a.Money`,
		},
		"bad field name": {
			fstest.MapFS{"o/A.avsc": file("{\"type\":\"record\",\"name\":\"A\",\"namespace\":\"a\",\"fields\":[\n{\"name\":\"m-n\",\"type\":\"int\"}]}")},
			"o/A.avsc:2: a field's name is made of letters",
		},
		"defined twice in the union": {
			fstest.MapFS{
				"o/A.avsc": file(`{"type":"record","name":"A","namespace":"a","fields":[{"name":"m","type":{"type":"fixed","name":"M","size":1}}]}`),
				"o/B.avsc": file("{\"type\":\"record\",\"name\":\"B\",\"namespace\":\"a\",\"fields\":[\n{\"name\":\"m\",\"type\":{\"type\":\"fixed\",\"name\":\"M\",\"size\":1}}]}"),
			}, "o/B.avsc:2: a.M is defined twice: put it in a file of its own in common/",
		},
		"shared twice": {
			fstest.MapFS{"common/A.avsc": file(good), "common/B.avsc": file(good)}, "common/B.avsc:1: a.Good is declared in common/A.avsc already",
		},
		"event at the root": {
			fstest.MapFS{"Good.avsc": file(good)}, "Good.avsc: an event's file stands in the folder of its aggregate",
		},
		"retired word": {
			fstest.MapFS{"o/A.avsc": file("{\"type\":\"record\",\"name\":\"A\",\"namespace\":\"a\",\n\"millrace.retired\":\"yes\",\"fields\":[]}")},
			"o/A.avsc:2: millrace.retired is true or false",
		},
		"version as a number": {
			fstest.MapFS{"o/A.avsc": file("{\"type\":\"record\",\"name\":\"A\",\"namespace\":\"a\",\n\"millrace.version\":2,\"fields\":[]}")},
			"o/A.avsc:2: millrace.version is a text",
		},
		"two records of one version": {
			fstest.MapFS{
				"o/Good.avsc": file(good),
				"o/Next.avsc": file(`{"type":"record","name":"Next","namespace":"a","millrace.event":"Good","fields":[]}`),
			}, `o/Next.avsc:1: the event type "Good" is declared in o/Good.avsc too`,
		},
		"changed envelope": {
			fstest.MapFS{"envelope.avsc": file(good)}, "envelope.avsc:1: an envelope.avsc of your own may differ",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := schemas.Load(c.files)
			var refusal *pipeline.Refusal
			if !errors.As(err, &refusal) || refusal.Exit != pipeline.ExitConfig {
				t.Fatalf("want a refusal, have %v", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("have %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := schemas.Load(fstest.MapFS{"o/A.avsc": file(`{`), "p/B.avsc": file(`[]`)})
	if err == nil || !strings.Contains(err.Error(), "o/A.avsc:1:") || !strings.Contains(err.Error(), "p/B.avsc:1:") {
		t.Errorf("have %v", err)
	}
}

func TestSharedTypesMayReferToEachOther(t *testing.T) {
	c, err := schemas.Load(fstest.MapFS{
		"common/Tree.avsc": file(`{"type":"record","name":"Tree","namespace":"a","fields":[{"name":"kids","type":{"type":"array","items":"Tree"}},{"name":"leaf","type":"b.Leaf"}]}`),
		"common/Leaf.avsc": file(`{"type":"record","name":"Leaf","namespace":"b","fields":[{"name":"up","type":["null","a.Tree"]}]}`),
		"o/A.avsc":         file(`{"type":"record","name":"A","namespace":"a","fields":[{"name":"t","type":"Tree"},{"name":"u","type":"Tree"}]}`),
		"o/B.avsc":         file(`{"type":"record","name":"B","namespace":"a","fields":[{"name":"l","type":"b.Leaf"}]}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.Envelope("o", "x")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(text, `"name":"Leaf"`) != 1 || strings.Count(text, `"name":"Tree"`) != 1 {
		t.Errorf("a shared type is not defined exactly once: %s", text)
	}
	if _, err := goavro.NewCodec(text); err != nil {
		t.Errorf("%v in %s", err, text)
	}
}

const customer = `{"type":"record","name":"Customer","namespace":"crm",
"millrace.key":["id"],"millrace.form":"change","fields":[
{"name":"id","type":"long","millrace.columns":["id","customer_id"],"default":0,"millrace.if_missing":"default"},
{"name":"born","type":["null",{"type":"int","logicalType":"date"}],"default":null,"millrace.zero_date":"null"},
{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"},"millrace.time_zone":"UTC"}]}`

func TestTables(t *testing.T) {
	c, err := schemas.Load(fstest.MapFS{"tables/Customer.avsc": file(customer), "order/.keep": file("")})
	if err != nil {
		t.Fatal(err)
	}
	if _, known := c.Aggregate("tables"); known {
		t.Error("the folder of tables is an aggregate")
	}
	s, known := c.Table("Customer")
	if !known || len(c.Tables()) != 1 || s.Record != "crm.Customer" || s.Form != schemas.Change || !slices.Equal(s.Key, []string{"id"}) || strings.Contains(s.Text, "millrace.") {
		t.Errorf("have %+v", s)
	}
	if f := s.Fields[0]; !slices.Equal(f.Columns, []string{"id", "customer_id"}) || !f.DefaultIfMissing || s.Fields[1].ZeroDate != "null" || !s.Fields[2].UTC || !slices.Equal(s.Fields[2].Columns, []string{"at"}) {
		t.Errorf("have %+v", s.Fields)
	}
	text, err := c.Change(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := goavro.NewCodec(text); err != nil || !strings.HasPrefix(text, `{"type":"record","name":"crm.CustomerChange"`) {
		t.Errorf("%v: %s", err, text)
	}
}

func TestTableProblems(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"no key":     {`"millrace.key":["id"],`, ``, "tables/Customer.avsc:1: millrace.key is missing"},
		"bad key":    {`["id"]`, `["no"]`, "tables/Customer.avsc:2: millrace.key names no, which is no field of crm.Customer"},
		"key word":   {`["id"]`, `"id"`, "millrace.key is a list of fields' names"},
		"form":       {`"change"`, `"changes"`, `millrace.form is "state" or "change"`},
		"columns":    {`["id","customer_id"]`, `[]`, "tables/Customer.avsc:3: millrace.columns is a list of columns' names"},
		"missing":    {`:"default"`, `:"null"`, "millrace.if_missing is one of stop, default"},
		"no default": {`"default":0,`, ``, `has millrace.if_missing: "default", and no default`},
		"zero date":  {`"millrace.zero_date":"null"`, `"millrace.zero_date":"never"`, "millrace.zero_date is one of null, epoch"},
		"zone":       {`"UTC"`, `"CET"`, "millrace.time_zone is one of UTC"},
		"no record":  {`"record"`, `"enum"`, "the shape of a table is a record"},
		"type":       {`"type":"long","mill`, `"type":"lang","mill`, `tables/Customer.avsc:3: unknown type "lang"`},
	} {
		text := strings.Replace(customer, c.old, c.new, 1)
		if _, err := schemas.Load(fstest.MapFS{"tables/Customer.avsc": file(text)}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: have %v\nwant %s", name, err, c.want)
		}
	}
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"type":"record","name":"A","namespace":"a","fields":[{"name":"t","type":["null","A"]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := schemas.Load(fstest.MapFS{"o/A.avsc": {Data: text}})
		if err != nil {
			return
		}
		if _, err := c.Envelope("o", "fuzz.target"); err != nil {
			t.Errorf("loaded but gives no envelope: %v", err)
		}
	})
}

// noFolder is a file system whose folders cannot be listed.
type noFolder struct{ fstest.MapFS }

func (noFolder) ReadDir(string) ([]fs.DirEntry, error) { return nil, fs.ErrPermission }

func TestUnreadableFolder(t *testing.T) {
	_, err := schemas.Load(noFolder{fstest.MapFS{}})
	var r *pipeline.Refusal
	if !errors.As(err, &r) || r.Rule != "schema-files" || !strings.Contains(err.Error(), ".: the folder cannot be read: permission denied") {
		t.Errorf("have %v", err)
	}
}
