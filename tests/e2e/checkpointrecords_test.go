package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// checkpointTopic is where the connector keeps its position.
func (r *rig) checkpointTopic() string { return "millrace.checkpoints." + r.name }

// put writes records to a topic in one go.
func (r *rig) put(t *testing.T, topic string, pairs ...string) {
	t.Helper()
	client := r.cluster.Client(t)
	for i := 0; i < len(pairs); i += 2 {
		record := &kgo.Record{Topic: topic, Key: []byte(pairs[i]), Value: []byte(pairs[i+1])}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkpointKey is the key of a record of one kind.
func (r *rig) checkpointKey(kind string) string {
	return fmt.Sprintf(`{"connector":%q,"task":0,"kind":%q}`, r.name, kind)
}

// table is a record of all partitions, without any.
const table = `{"v":1,"txn":1,"partitions":{},"facts":[]}`

// checkpointOf returns a step that writes a checkpoint as an earlier process
// would have left it, with changes.
func checkpointOf(change func(c map[string]any, r *rig, t *testing.T)) func(t *testing.T, r *rig) {
	return func(t *testing.T, r *rig) {
		t.Helper()
		c := map[string]any{
			"v": 1, "txn": 1, "epoch": 1, "count": 0, "lag_ms": 0, "gtid": "", "file": "binlog.000001", "pos": 4,
			"flavor": "mysql", "commit_us": 0, "read_us": 0, "time_us": 0, "state": "streaming", "table": 1,
			"owner": map[string]any{"instance": "millrace", "host": "h", "pid": 1, "version": "dev", "started": 1},
		}
		change(c, r, t)
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		r.cluster.CreateTopic(t, r.checkpointTopic(), 1, map[string]string{"cleanup.policy": "compact"})
		r.put(t, r.checkpointTopic(), r.checkpointKey("table"), table, r.checkpointKey("commit"), string(text))
	}
}
