package avro

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// change is one step of a schema. back says that readers with the new schema
// read what the old one wrote, forth that readers with the old one read what
// the new one writes, both by Avro's rules; own, that only our rules object.
type change struct {
	name, from, to   string
	back, forth, own bool
}

func rec(fields string) string {
	return `{"type":"record","name":"E","namespace":"m","fields":[` + fields + `]}`
}

func field(name, typ string, more ...string) string {
	return `{"name":"` + name + `","type":` + typ + strings.Join(more, "") + `}`
}

const (
	money   = `{"type":"record","name":"Money","fields":[{"name":"minor","type":"long"}]}`
	money2  = `{"type":"record","name":"Money","fields":[{"name":"minor","type":"long"},{"name":"currency","type":"string"}]}`
	colours = `{"type":"enum","name":"C","symbols":["RED","BLUE"]}`
)

var id = field("id", `"long"`)

// changes are what people do to an event's file.
var changes = []change{
	{"nothing", rec(id), rec(id), true, true, false},
	{"field with default added", rec(id), rec(id + "," + field("a", `"int"`, `,"default":1`)), true, true, false},
	{"field without default added", rec(id), rec(id + "," + field("a", `"int"`)), false, true, false},
	{"nullable field with default added", rec(id), rec(id + "," + field("a", `["null","int"]`, `,"default":null`)), true, true, false},
	{"nullable field without default added", rec(id), rec(id + "," + field("a", `["null","int"]`)), false, true, false},
	{"field with default removed", rec(id + "," + field("a", `"int"`, `,"default":1`)), rec(id), true, true, false},
	{"field without default removed", rec(id + "," + field("a", `"int"`)), rec(id), true, false, false},
	{"field renamed", rec(id + "," + field("a", `"int"`)), rec(id + "," + field("b", `"int"`)), false, false, false},
	{"field renamed with alias", rec(id + "," + field("a", `"int"`)), rec(id + "," + field("b", `"int"`, `,"aliases":["a"]`)), true, false, false},
	{"field renamed with alias and defaults", rec(id + "," + field("a", `"int"`, `,"default":0`)), rec(id + "," + field("b", `"int"`, `,"aliases":["a"],"default":0`)), true, true, false},
	{"fields swapped", rec(id + "," + field("a", `"int"`)), rec(field("a", `"int"`) + "," + id), true, true, false},
	{"default changed", rec(field("a", `"int"`, `,"default":1`)), rec(field("a", `"int"`, `,"default":2`)), true, true, false},
	{"default removed", rec(field("a", `"int"`, `,"default":1`)), rec(field("a", `"int"`)), true, true, false},
	{"doc changed", rec(field("a", `"int"`)), rec(field("a", `"int"`, `,"doc":"more"`)), true, true, false},
	{"int to long", rec(field("a", `"int"`)), rec(field("a", `"long"`)), true, false, false},
	{"long to int", rec(field("a", `"long"`)), rec(field("a", `"int"`)), false, true, false},
	{"float to double", rec(field("a", `"float"`)), rec(field("a", `"double"`)), true, false, false},
	{"long to string", rec(field("a", `"long"`)), rec(field("a", `"string"`)), false, false, false},
	{"string to bytes", rec(field("a", `"string"`)), rec(field("a", `"bytes"`)), true, true, false},
	{"required to nullable", rec(field("a", `"int"`)), rec(field("a", `["null","int"]`)), true, false, false},
	{"nullable to required", rec(field("a", `["null","int"]`)), rec(field("a", `"int"`)), false, true, false},
	{"branch added to a union", rec(field("a", `["null","int"]`)), rec(field("a", `["null","int","string"]`)), true, false, false},
	{"branch removed from a union", rec(field("a", `["null","int","string"]`)), rec(field("a", `["null","int"]`)), false, true, false},
	{"branches swapped", rec(field("a", `["null","int"]`)), rec(field("a", `["int","null"]`)), true, true, false},
	{"symbol added", rec(field("a", colours)), rec(field("a", `{"type":"enum","name":"C","symbols":["RED","BLUE","GREEN"]}`)), true, false, false},
	{"symbol added to an enum with default", rec(field("a", `{"type":"enum","name":"C","symbols":["RED","BLUE"],"default":"RED"}`)),
		rec(field("a", `{"type":"enum","name":"C","symbols":["RED","BLUE","GREEN"],"default":"RED"}`)), true, true, false},
	{"symbol removed", rec(field("a", colours)), rec(field("a", `{"type":"enum","name":"C","symbols":["RED"]}`)), false, true, false},
	{"symbols swapped", rec(field("a", colours)), rec(field("a", `{"type":"enum","name":"C","symbols":["BLUE","RED"]}`)), true, true, false},
	{"enum renamed", rec(field("a", colours)), rec(field("a", strings.Replace(colours, `"C"`, `"D"`, 1))), false, false, false},
	{"fixed resized", rec(field("a", `{"type":"fixed","name":"F","size":4}`)), rec(field("a", `{"type":"fixed","name":"F","size":5}`)), false, false, false},
	{"record renamed", rec(id), strings.Replace(rec(id), `"E"`, `"G"`, 1), false, false, false},
	{"record renamed with alias", rec(id), strings.Replace(rec(id), `"E"`, `"G","aliases":["E"]`, 1), true, false, false},
	{"record moved to another namespace", rec(id), strings.Replace(rec(id), `"m"`, `"n"`, 1), true, true, true},
	{"nested field without default added", rec(field("a", money)), rec(field("a", money2)), false, true, false},
	{"nested field removed in an array", rec(field("a", `{"type":"array","items":`+money2+`}`)), rec(field("a", `{"type":"array","items":`+money+`}`)), true, false, false},
	{"values of a map retyped", rec(field("a", `{"type":"map","values":"int"}`)), rec(field("a", `{"type":"map","values":"string"}`)), false, false, false},
	{"item to array", rec(field("a", `"int"`)), rec(field("a", `{"type":"array","items":"int"}`)), false, false, false},
	{"scale of a decimal changed", rec(field("a", decimal42)), rec(field("a", strings.Replace(decimal42, `"scale":2`, `"scale":3`, 1))), true, true, true},
	{"precision of a decimal grown", rec(field("a", decimal42)), rec(field("a", strings.Replace(decimal42, `"precision":4`, `"precision":9`, 1))), true, true, true},
	{"milliseconds to microseconds", rec(field("a", stampMs)), rec(field("a", strings.Replace(stampMs, "millis", "micros", 1))), true, true, true},
	{"number to time", rec(field("a", `"long"`)), rec(field("a", stampMs)), true, true, true},
	{"date to days", rec(field("a", dateType)), rec(field("a", `"int"`)), true, true, true},
	{"recursive type grown", `{"type":"record","name":"T","fields":[{"name":"next","type":["null","T"]}]}`,
		`{"type":"record","name":"T","fields":[{"name":"next","type":["null","T"]},{"name":"x","type":"int"}]}`, false, true, false},
}

// readable returns whether Avro's rules let a reader take a writer's data, and
// whether only our own object.
func readable(t *testing.T, reader, writer string) (avro, own bool) {
	t.Helper()
	avro = true
	for _, b := range Breaks(mustParse(t, reader), mustParse(t, writer)) {
		if b.Own {
			own = true
		} else {
			avro = false
		}
		if text := b.Text("the new schema", "version 3"); strings.Contains(text, "{") || !strings.Contains(text, "the new schema") || !strings.Contains(text, "version 3") || b.Path == "" {
			t.Errorf("%+v: %s", b, text)
		}
	}
	return avro, own
}

func TestChanges(t *testing.T) {
	if len(changes) < 30 {
		t.Errorf("only %d changes", len(changes))
	}
	for _, c := range changes {
		back, own := readable(t, c.to, c.from)
		forth, own2 := readable(t, c.from, c.to)
		if back != c.back || forth != c.forth || (own || own2) != c.own {
			t.Errorf("%s: have back %v, forth %v, own %v", c.name, back, forth, own || own2)
		}
		for _, level := range Levels {
			breaches := level.Check(mustParse(t, c.to), []*Schema{mustParse(t, c.from)})
			want := level.backward() && !c.back || level.forward() && !c.forth
			if OwnOnly(breaches) == want || level == LevelNone && len(breaches) > 0 {
				t.Errorf("%s at %s: %+v", c.name, level, breaches)
			}
		}
	}
}

// TestTransitive tells a step that the last version allows and an earlier one
// does not.
func TestTransitive(t *testing.T) {
	chain := []*Schema{
		mustParse(t, rec(id)),
		mustParse(t, rec(id+","+field("a", `"int"`, `,"default":1`))),
	}
	next := mustParse(t, rec(id+","+field("a", `"int"`)))
	for level, want := range map[Level]int{LevelBackward: 0, LevelBackwardTransitive: 1, LevelFull: 0, LevelFullTransitive: 1, LevelForwardTransitive: 0, LevelNone: 0} {
		breaches := level.Check(next, chain)
		if len(breaches) != want {
			t.Errorf("%s: %+v", level, breaches)
		}
		for _, b := range breaches {
			if b.Earlier != 0 || b.Forward || b.Path != "$.a" ||
				b.Text("the new schema", "version 1") != "version 1 does not write the field a, and the new schema has no default for it" {
				t.Errorf("%s: %+v", level, b)
			}
		}
	}
}

const javaVersion = "1.12.0"

// javaJudge reads lines "reader TAB writer" and prints what Avro's own rules
// say of each.
const javaJudge = `
import java.io.*;
import org.apache.avro.*;
public class Judge {
  public static void main(String[] args) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
    for (String line; (line = in.readLine()) != null; ) {
      String[] part = line.split("\t");
      Schema reader = new Schema.Parser().parse(part[0]), writer = new Schema.Parser().parse(part[1]);
      System.out.println(SchemaCompatibility.checkReaderWriterCompatibility(reader, writer).getType());
    }
  }
}`

// judge asks Java Avro about pairs of reader and writer.
func judge(t *testing.T, pairs [][2]string) []bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	jars, err := services.Jars(ctx, "avro-"+javaVersion, "org.apache.avro:avro:"+javaVersion)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "Judge.java")
	if err := os.WriteFile(source, []byte(javaJudge), 0o600); err != nil {
		t.Fatal(err)
	}
	classes := filepath.Join(jars, "*")
	if out, err := exec.CommandContext(ctx, "javac", "-cp", classes, "-d", dir, source).CombinedOutput(); err != nil {
		t.Fatalf("compile with javac (apt-get install default-jdk-headless): %v\n%s", err, out)
	}
	var in, out, problems bytes.Buffer
	for _, p := range pairs {
		in.WriteString(p[0] + "\t" + p[1] + "\n")
	}
	run := exec.CommandContext(ctx, "java", "-cp", dir+string(os.PathListSeparator)+classes, "Judge")
	run.Stdin, run.Stdout, run.Stderr = &in, &out, &problems
	if err := run.Run(); err != nil {
		t.Fatalf("%v\n%s", err, problems.String())
	}
	answers := strings.Fields(out.String())
	if len(answers) != len(pairs) {
		t.Fatalf("%d answers to %d questions", len(answers), len(pairs))
	}
	verdicts := make([]bool, len(answers))
	for i, a := range answers {
		verdicts[i] = a == "COMPATIBLE"
	}
	return verdicts
}

// TestAgreesWithJava asks Java Avro's SchemaCompatibility about every change,
// in both directions, and about random pairs.
func TestAgreesWithJava(t *testing.T) {
	var pairs [][2]string
	var names []string
	for _, c := range changes {
		pairs = append(pairs, [2]string{c.to, c.from}, [2]string{c.from, c.to})
		names = append(names, c.name, c.name+", readers with the old schema")
	}
	for i := range changes {
		for j := range changes {
			pairs = append(pairs, [2]string{changes[i].to, changes[j].from})
			names = append(names, changes[i].name+" against "+changes[j].name)
		}
	}
	for i, want := range judge(t, pairs) {
		if have, _ := readable(t, pairs[i][0], pairs[i][1]); have != want {
			t.Errorf("%s: Java says %v\nreader %s\nwriter %s", names[i], want, pairs[i][0], pairs[i][1])
		}
	}
	t.Logf("%d pairs", len(pairs))
}
