package e2e

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"millrace/tests/services"
)

// servers runs a test on both databases, at the same time.
func servers(t *testing.T, test func(t *testing.T, db *services.Database)) {
	t.Helper()
	for name, db := range map[string]func(testing.TB) *services.Database{"mysql": services.MySQL, "mariadb": services.MariaDB} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, db(t))
		})
	}
}

// TestEveryEventOnceInOrder writes with eight concurrent writers while the
// connector runs. E2E_EVENTS is the number of events, 1000000 in the long form.
func TestEveryEventOnceInOrder(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) {
		r := newRig(t, db, 12)
		w := r.pool(t)
		p := r.start(t)
		p.streaming(t)
		ctx := withTimeout(t, 20*time.Minute)
		began := time.Now()
		w.fill(ctx, t, number(t, "E2E_EVENTS", 40_000), 8)
		wrote := time.Since(began)
		w.verify(ctx, t)
		t.Logf("written in %v, all there after %v", wrote.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		if code := p.stop(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// TestKilledAtRandomMoments kills the connector with SIGKILL during load and
// starts it again. E2E_KILLS is how often, 50 in the long form.
func TestKilledAtRandomMoments(t *testing.T) {
	t.Parallel()
	servers(t, func(t *testing.T, db *services.Database) {
		r := newRig(t, db, 6)
		w := r.pool(t)
		kills := number(t, "E2E_KILLS", 6)
		first := r.start(t)
		first.streaming(t)
		first.kill()
		ctx := withTimeout(t, 20*time.Minute)
		written := make(chan struct{})
		go func() {
			defer close(written)
			w.fill(ctx, t, kills*4_000, 4)
		}()
		random := rand.New(rand.NewPCG(1, uint64(kills)))
		for range kills {
			p := r.start(t)
			p.streaming(t)
			// The moment is the point of the test; nothing is waited for.
			select {
			case <-time.After(time.Duration(random.IntN(1500)) * time.Millisecond):
			case <-ctx.Done():
				t.Fatal(ctx.Err())
			}
			p.kill()
		}
		<-written
		r.start(t)
		w.verify(ctx, t)
	})
}

// TestStandbyTakesOver runs two instances of which the active one is killed
// again and again. E2E_TAKEOVERS is how often, E2E_TAKEOVER_SECONDS how long it
// works before. Each kill fences once, and nothing else does.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, services.MySQL(t), 6)
	w := r.pool(t)
	takeovers := number(t, "E2E_TAKEOVERS", 3)
	active := r.start(t)
	active.streaming(t)
	standby := r.start(t)
	standby.logged(t, "to=STANDBY")
	ctx := withTimeout(t, 20*time.Minute)
	written := make(chan struct{})
	go func() {
		defer close(written)
		w.fill(ctx, t, takeovers*(8_000+number(t, "E2E_TAKEOVER_SECONDS", 2)*500), 4)
	}()
	all := []*process{active, standby}
	for range takeovers {
		select { // the moment is the point of the test
		case <-time.After(time.Duration(number(t, "E2E_TAKEOVER_SECONDS", 2)) * time.Second):
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
		if strings.Contains(standby.log.String(), "to=FENCING") {
			t.Error("the task has moved, and nobody was killed")
		}
		active.kill()
		began := time.Now()
		standby.streaming(t)
		t.Logf("taken over after %v", time.Since(began).Round(time.Millisecond))
		active, standby = standby, r.start(t)
		all = append(all, standby)
		standby.logged(t, "to=STANDBY")
	}
	<-written
	w.verify(ctx, t)
	fenced := 0
	for _, p := range all {
		fenced += strings.Count(p.log.String(), "to=FENCING")
	}
	if fenced != takeovers+1 {
		t.Errorf("fenced %d times, and %d kills", fenced, takeovers)
	}
}
