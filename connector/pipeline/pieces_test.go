package pipeline

import (
	"bytes"
	"testing"
)

// fillPieces appends what is wanted and returns views of it.
func fillPieces(p *Pieces[byte], piece []byte, sizes ...int) ([]byte, [][]byte) {
	var views [][]byte
	for i, n := range sizes {
		piece = p.Room(piece, n)
		at := len(piece)
		piece = append(piece, bytes.Repeat([]byte{byte(i)}, n)...)
		views = append(views, piece[at:len(piece):len(piece)])
	}
	return piece, views
}

// TestPieces: views stay as they were, memory is used again after a Reset, and
// there is hardly more of it than was asked for.
func TestPieces(t *testing.T) {
	var p Pieces[byte]
	var piece []byte
	sizes := make([]int, 3000)
	for i := range sizes {
		sizes[i] = 10_000 + i%7
	}
	sizes[100] = 3 << 20
	piece, views := fillPieces(&p, piece, sizes...)
	held := cap(piece)
	for _, f := range p.full {
		held += cap(f)
	}
	wanted := 0
	for i, v := range views {
		wanted += len(v)
		if len(v) != sizes[i] || !bytes.Equal(v, bytes.Repeat([]byte{byte(i)}, sizes[i])) {
			t.Fatalf("view %d has changed", i)
		}
	}
	if held > wanted+wanted/20+pieceBytes {
		t.Errorf("%d bytes for %d", held, wanted)
	}
	piece = p.Reset(piece, 40)
	if n := testing.AllocsPerRun(10, func() {
		for range 3000 {
			piece = p.Room(piece, 10_000)
			piece = piece[:len(piece)+10_000]
		}
		piece = p.Reset(piece, 40)
	}); n != 0 {
		t.Errorf("%v allocations when it is used again", n)
	}
	piece = p.Room(piece, 5<<20)
	if piece = p.Reset(piece[:1], 3); piece != nil || len(p.free) > 40 {
		t.Errorf("%d bytes and %d pieces are kept", cap(piece), len(p.free))
	}
}

// TestPiecesCut goes back within a piece and behind others: what stands before
// stays, the rest is used again.
func TestPiecesCut(t *testing.T) {
	var p Pieces[byte]
	var piece []byte
	for range 3 { // nothing more is taken the second and third time
		var views [][]byte
		piece, views = fillPieces(&p, piece, 0, 1<<19, 1<<20, 1<<20, 1000, 2000)
		if n := p.Len(piece); n != 5<<19+3000 || len(p.full) != 3 {
			t.Fatalf("%d bytes behind %d pieces", n, len(p.full))
		}
		for _, n := range []int{5<<19 + 1000, 5 << 19, 1<<19 + 500, 500} {
			if piece = p.Cut(piece, n); p.Len(piece) != n {
				t.Errorf("%d bytes, want %d", p.Len(piece), n)
			}
		}
		if !bytes.Equal(views[1][:500], bytes.Repeat([]byte{1}, 500)) || len(p.full) != 0 || len(p.free) != 3 {
			t.Errorf("%x, %d pieces in use and %d free", views[1][:5], len(p.full)+1, len(p.free))
		}
		if piece = p.Cut(piece, 0); cap(piece) == 0 {
			t.Error("the first piece is gone")
		}
	}
}
