package scenarios

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// window knows what a member has in work. Workers finish in any order, and of a
// partition may be committed what lies below the lowest offset in work.
type window struct {
	mu        sync.Mutex
	changed   *sync.Cond // a job was finished, or all were abandoned
	parts     map[string]*inWork
	abandoned bool
}

// inWork is what was taken from a partition, in its order.
type inWork struct {
	jobs []*job
	// done is the last record before the jobs, nil at the beginning.
	done *kgo.Record
}

// job is a record in work. A job that was dropped is another member's.
type job struct {
	*kgo.Record
	finished, dropped bool
}

func newWindow() *window {
	w := &window{parts: map[string]*inWork{}}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// take notes that a record is in work from now on.
func (w *window) take(r *kgo.Record) *job {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := place(r.Topic, r.Partition)
	if w.parts[at] == nil {
		w.parts[at] = &inWork{}
	}
	j := &job{Record: r}
	w.parts[at].jobs = append(w.parts[at].jobs, j)
	return j
}

func (w *window) finish(j *job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	j.finished = true
	w.changed.Broadcast()
}

// pass goes past the jobs that are finished, up to the first that is not.
func (p *inWork) pass() {
	for len(p.jobs) > 0 && p.jobs[0].finished {
		p.done, p.jobs = p.jobs[0].Record, p.jobs[1:]
	}
}

// done returns of each partition the record up to which it may be committed.
func (w *window) done() []*kgo.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*kgo.Record
	for _, part := range w.parts {
		if part.pass(); part.done != nil {
			out = append(out, part.done)
		}
	}
	return out
}

// drain waits until nothing of the partitions is in work, and reports whether that
// came true.
func (w *window) drain(parts map[string][]int32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range places(parts) {
		for w.parts[at].busy() && !w.abandoned {
			w.changed.Wait()
		}
	}
	return !w.abandoned
}

func (p *inWork) busy() bool {
	if p == nil {
		return false
	}
	p.pass()
	return len(p.jobs) > 0
}

// busy reports whether anything is in work.
func (w *window) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, part := range w.parts {
		if part.busy() {
			return true
		}
	}
	return false
}

// abandon ends waiting for what nobody will finish.
func (w *window) abandon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.abandoned = true
	w.changed.Broadcast()
}

// drop leaves the partitions to other members.
func (w *window) drop(parts map[string][]int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range places(parts) {
		if part := w.parts[at]; part != nil {
			for _, j := range part.jobs {
				j.dropped = true
			}
		}
		delete(w.parts, at)
	}
}

// mine reports whether a job is still to be done here.
func (w *window) mine(j *job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !j.dropped
}

func places(parts map[string][]int32) []string {
	var out []string
	for topic, ids := range parts {
		for _, id := range ids {
			out = append(out, place(topic, id))
		}
	}
	return out
}
