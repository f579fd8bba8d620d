package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// units is a service that consumers ask how many pieces a unit is. It can be away,
// and there are units that it does not know.
type units struct {
	url   string
	away  atomic.Bool
	mu    sync.Mutex
	known map[string]int
}

// The two ways in which it fails, and they must not be taken for each other.
var (
	errAway    = errors.New("the service of units is away: it may answer later")
	errUnknown = errors.New("nobody knows this unit: it fails each time")
)

func newUnits(t *testing.T, known map[string]int) *units {
	t.Helper()
	u := &units{known: known}
	server := httptest.NewServer(u)
	t.Cleanup(server.Close)
	u.url = server.URL
	return u
}

// ServeHTTP answers /<unit> with a number of pieces.
func (u *units) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	pieces, known := u.known[strings.TrimPrefix(r.URL.Path, "/")]
	switch {
	case u.away.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case !known:
		w.WriteHeader(http.StatusNotFound)
	default:
		fmt.Fprint(w, pieces)
	}
}

// learn is the fix.
func (u *units) learn(unit string, pieces int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known[unit] = pieces
}

// pieces asks the service. Errors: errAway, which passes, and errUnknown.
func (u *units) pieces(ctx context.Context, unit string) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.url+"/"+unit, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, errors.Join(errAway, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return 0, errors.Join(errAway, err)
	case response.StatusCode == http.StatusNotFound:
		return 0, fmt.Errorf("%w: %s", errUnknown, unit)
	case response.StatusCode != http.StatusOK:
		return 0, fmt.Errorf("%w: %s", errAway, response.Status)
	}
	return strconv.Atoi(string(text))
}
