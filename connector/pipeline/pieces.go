package pipeline

import "unsafe"

// Pieces is memory for what others point into. It grows piece by piece: append
// alone would move everything whenever it is full, and keep the old memory too
// for those who point there, five times as much as there is in the end. The
// caller appends to one piece and hands it to Room and Reset. The zero value is
// ready.
type Pieces[T any] struct {
	// full stand behind the one in use, free wait for the next.
	full, free [][]T
	// before counts the elements of the full ones.
	before int
}

// pieceBytes is the size that pieces grow to, and keep.
const pieceBytes = 1 << 20

func pieceSize[T any]() int {
	var one T
	return pieceBytes / int(unsafe.Sizeof(one))
}

// Room returns the piece, or an empty one, with room for n more elements.
func (p *Pieces[T]) Room(piece []T, n int) []T {
	if cap(piece)-len(piece) >= n {
		return piece
	}
	if len(piece) > 0 {
		p.full = append(p.full, piece)
		p.before += len(piece)
	}
	if last := len(p.free) - 1; last >= 0 && cap(p.free[last]) >= n {
		piece = p.free[last]
		p.free = p.free[:last]
		return piece
	}
	return make([]T, 0, max(n, min(2*cap(piece), pieceSize[T]()), pieceSize[T]()/256))
}

// Reset frees all pieces for another use, and returns one to begin with. It
// keeps as many as given, none that is larger than usual, and does not touch
// their content.
func (p *Pieces[T]) Reset(piece []T, keep int) []T {
	for _, f := range p.full {
		if len(p.free) < keep && cap(f) <= pieceSize[T]() {
			p.free = append(p.free, f[:0])
		}
	}
	clear(p.full)
	p.full, p.before = p.full[:0], 0
	if cap(piece) > pieceSize[T]() {
		return nil
	}
	return piece[:0]
}

// Len returns how many elements there are, in all pieces.
func (p *Pieces[T]) Len(piece []T) int { return p.before + len(piece) }

// Cut goes back to n elements in all, and returns the piece in use then. What is
// cut off is zeroed, and free for another use.
func (p *Pieces[T]) Cut(piece []T, n int) []T {
	for n < p.before {
		clear(piece)
		if cap(piece) <= pieceSize[T]() {
			p.free = append(p.free, piece[:0])
		}
		last := len(p.full) - 1
		piece, p.full[last] = p.full[last], nil
		p.full = p.full[:last]
		p.before -= len(piece)
	}
	clear(piece[n-p.before:])
	return piece[:n-p.before]
}

// Clear zeroes all elements, so that they hold nothing alive.
func (p *Pieces[T]) Clear(piece []T) {
	clear(piece)
	for _, f := range p.full {
		clear(f)
	}
}
