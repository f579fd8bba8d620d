package kafka

import (
	"slices"
	"strings"
)

// ACLs returns, as commands for kafka-acls.sh, the least that o needs: topics
// are the event topics (a trailing * makes a prefix). Creating topics is
// granted only where topic.creation.* asks for it; the checkpoint and the
// status topic are expected to be created by whoever runs this text.
func ACLs(o Options, topics []string) string {
	o = o.withDefaults()
	var b strings.Builder
	line := func(comment, what string) {
		if comment != "" {
			b.WriteString("# " + comment + "\n")
		}
		b.WriteString(acl(o, what) + "\n")
	}
	topics = slices.Sorted(slices.Values(topics))
	comment := "event topics: write, look up, read back after a crash"
	for _, name := range topics {
		line(comment, "--operation Write --operation Describe --operation DescribeConfigs --operation Read "+pattern("--topic", name))
		if o.Creation.For(name) != nil {
			line("", "--operation Create "+pattern("--topic", name))
		}
		comment = ""
	}
	line("checkpoints", "--operation Write --operation Describe --operation DescribeConfigs --operation Read --topic "+o.CheckpointTopic)
	line("status", "--operation Write --operation Describe --operation DescribeConfigs --operation Read --topic "+o.StatusTopic)
	line("ownership of the task", "--operation Read --operation Describe --group "+o.Group())
	if o.AtLeastOnce {
		return b.String() + createLines(o)
	}
	line("transactions, and the fencing of predecessors", transactionalACL(o))
	line("check of "+verification+" at start", "--operation DescribeConfigs --cluster")
	return b.String() + createLines(o)
}

func createLines(o Options) string {
	spec := o.compactedSpec(1)
	return "# the topics that are Millrace's own\n" + o.createCommand(o.CheckpointTopic, spec) + "\n" + o.createCommand(o.StatusTopic, spec) + "\n"
}

// pattern names a resource literally or, with a trailing *, by prefix.
func pattern(flag, name string) string {
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		return flag + " " + prefix + " --resource-pattern-type prefixed"
	}
	return flag + " " + name
}
