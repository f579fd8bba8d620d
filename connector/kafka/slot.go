//go:build unix

package kafka

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSlots is how many processes on one machine may wait for one task.
const maxSlots = 64

// A Slot is a place in a task's group that outlives the process: the next
// process that holds it is the same member to the group, and is given back what
// its predecessor had at once instead of after the session timeout.
type Slot struct {
	// Member is for Options.Member.
	Member string
	file   *os.File
}

// HoldSlot takes the first free slot of a group on this machine: a lock on a
// file in dir, which the system frees when the process ends, however it ends.
// host tells machines apart. dir must be the same for all processes of the
// machine and writable; an error is no reason not to run, only slower to
// recover. The folder is made where it is missing.
func HoldSlot(dir, group, host string) (*Slot, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("hold slot: %w", err)
	}
	for n := range maxSlots {
		name := filepath.Join(dir, strings.ReplaceAll(group, string(filepath.Separator), "_")+"."+strconv.Itoa(n)+".lock")
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("hold slot: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return &Slot{Member: host + "." + strconv.Itoa(n), file: f}, nil
		}
		_ = f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("hold slot %s: %w", name, err)
		}
	}
	return nil, fmt.Errorf("hold slot: all %d slots of %s are held", maxSlots, group)
}

// Release gives the slot back.
func (s *Slot) Release() {
	_ = s.file.Close()
}
