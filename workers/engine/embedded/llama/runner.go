package llama

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// Sequence is one sequence's part of a step.
type Sequence struct {
	Tokens []uint32 // to run in this step
	Start  int      // position of Tokens[0]; everything before it is in Pages already
	// Pages[i] holds the keys and values of positions [i*bs, (i+1)*bs). They must
	// cover Start+len(Tokens). Pages with positions from Start on are written.
	Pages  [][]byte
	Logits bool // want the logits of the last token
}

// Runner computes steps of one model. It is not safe for concurrent use.
type Runner struct {
	m         *Model
	blockSize int
	team      *team
	rope      rotations
	memory    []scratch // per member of the team

	seqs   []Sequence
	tokens []token
	spans  []span
	layer  int

	// Activations, one row per token.
	x, normed, qkv, attn, projected, gateUp, active []float32

	// The product that is being computed.
	lin      *linear
	dst, src []float32
	rows     int
	wanted   []int // rows of x whose logits are asked for
	logits   []float32
	answers  [][]float32

	// The phases as values, made once: a method value allocates.
	embedPhase, attnNormPhase, productPhase, storePhase   func(int, int)
	attendPhase, ffnNormPhase, activatePhase, finishPhase func(int, int)
}

// token is one row of activations.
type token struct{ seq, pos int }

// span is an attention task: some tokens of a sequence and one key/value head.
type span struct {
	seq, head   int
	first, rows int // rows of activations
}

// scratch is a member's own memory.
type scratch struct {
	weights []float32 // unpacked columns of a panel
	q, kv   []float32
	scores  []float32
	out     []float32
	_       [64]byte
}

const (
	unpackCols = 96  // columns of a panel unpacked at a time: 24 KiB, half of a first-level cache
	tokenTile  = 126 // (whole kernel rows) tokens per task of a product: their inputs stay in the second-level cache
	attendRows = 24  // queries (tokens times heads) per attention task
)

// NewRunner prepares to run m on pages of blockSize positions with the given
// number of threads (0: one per processor; never more).
func NewRunner(m *Model, blockSize, threads int) *Runner {
	if procs := runtime.GOMAXPROCS(0); threads <= 0 || threads > procs {
		threads = procs
	}
	r := &Runner{
		m: m, blockSize: blockSize, team: newTeam(threads), memory: make([]scratch, threads),
		rope: rotations{freqs: m.freqs, scale: m.ropeScale},
	}
	for i := range r.memory {
		r.memory[i].weights = alignedFloats(unpackCols * lanes)
	}
	r.embedPhase, r.attnNormPhase, r.productPhase, r.storePhase = r.embed, r.attnNorm, r.product, r.storeKV
	r.attendPhase, r.ffnNormPhase, r.activatePhase, r.finishPhase = r.attend, r.ffnNorm, r.activate, r.finish
	return r
}

// Close ends the runner's threads.
func (r *Runner) Close() { r.team.stop() }

// alignedFloats starts on a cache line, so that no vector load crosses one.
func alignedFloats(n int) []float32 {
	s := make([]float32, n+16)
	skip := -int(uintptr(unsafe.Pointer(&s[0]))/4) & 15
	return s[skip:][:n:n]
}

func grow(s *[]float32, n int) {
	if len(*s) < n {
		*s = alignedFloats(n + n/2)
	}
}

// Step runs the tokens of all sequences: it writes their keys and values to the
// pages and returns, for each sequence that asked, the logits of its last token,
// valid until the next Step. When ctx ends, Step returns its error after at most
// a layer, and the pages hold garbage at this step's positions.
func (r *Runner) Step(ctx context.Context, seqs []Sequence) ([][]float32, error) {
	if err := r.begin(seqs); err != nil {
		return nil, err
	}
	n := len(r.tokens)
	r.team.run(n, &r.embedPhase)
	for i := range r.m.layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.layer = i
		l := &r.m.layers[i]
		r.team.run(n, &r.attnNormPhase)
		r.multiply(&l.qkv, r.qkv, r.normed, n)
		r.team.run(n, &r.storePhase)
		r.team.run(len(r.spans), &r.attendPhase)
		r.multiply(&l.out, r.projected, r.attn, n)
		r.team.run(n, &r.ffnNormPhase)
		r.multiply(&l.gateUp, r.gateUp, r.normed, n)
		r.team.run(n, &r.activatePhase)
		r.multiply(&l.down, r.projected, r.active, n)
	}
	r.team.run(len(r.wanted), &r.finishPhase)
	r.multiply(&r.m.output, r.logits, r.normed, len(r.wanted))
	return r.answers, nil
}

// begin checks the sequences and lays out the step.
func (r *Runner) begin(seqs []Sequence) error {
	c := &r.m.config
	r.seqs, r.tokens, r.spans, r.wanted = seqs, r.tokens[:0], r.spans[:0], r.wanted[:0]
	reach := 0
	for i := range seqs {
		s := &seqs[i]
		end := s.Start + len(s.Tokens)
		if err := r.check(s, end); err != nil {
			return fmt.Errorf("llama: sequence %d: %w", i, err)
		}
		first := len(r.tokens)
		for j := range s.Tokens {
			r.tokens = append(r.tokens, token{seq: i, pos: s.Start + j})
		}
		r.split(i, first)
		if s.Logits {
			r.wanted = append(r.wanted, len(r.tokens)-1)
		}
		reach = max(reach, end)
	}
	r.rope.grow(reach)
	n, l := len(r.tokens), &r.m.layers[0]
	grow(&r.x, n*c.Hidden)
	grow(&r.normed, n*c.Hidden)
	grow(&r.qkv, n*l.qkv.width)
	grow(&r.attn, n*c.Heads*c.HeadDim)
	grow(&r.projected, n*max(l.out.width, l.down.width))
	grow(&r.gateUp, n*l.gateUp.width)
	grow(&r.active, n*c.FFN)
	grow(&r.logits, len(r.wanted)*r.m.output.width)
	rows := max(attendRows, c.Heads/c.KVHeads)
	for i := range r.memory {
		mem := &r.memory[i]
		grow(&mem.q, rows*c.HeadDim)
		grow(&mem.kv, lanes*padLanes(c.HeadDim))
		grow(&mem.scores, rows*padLanes(reach))
		grow(&mem.out, rows*padLanes(c.HeadDim))
	}
	r.answers = r.answers[:0]
	at := 0
	for i := range seqs {
		r.answers = append(r.answers, nil)
		if seqs[i].Logits {
			r.answers[i] = r.logits[at:][:c.Vocab:c.Vocab]
			at += r.m.output.width
		}
	}
	return nil
}

func (r *Runner) check(s *Sequence, end int) error {
	switch c := &r.m.config; {
	case len(s.Tokens) == 0:
		return errors.New("no tokens to run")
	case s.Start < 0 || end > c.MaxContext:
		return fmt.Errorf("positions %d to %d leave the context of %d", s.Start, end, c.MaxContext)
	case len(s.Pages)*r.blockSize < end:
		return fmt.Errorf("%d pages of %d positions do not cover %d", len(s.Pages), r.blockSize, end)
	}
	for _, t := range s.Tokens {
		if int64(t) >= int64(r.m.config.Vocab) {
			return fmt.Errorf("token %d is outside the vocabulary of %d", t, r.m.config.Vocab)
		}
	}
	size := r.m.BlockBytes(r.blockSize)
	for i, p := range s.Pages {
		if len(p) != size {
			return fmt.Errorf("page %d has %d bytes, want %d", i, len(p), size)
		}
		if uintptr(unsafe.Pointer(&p[0]))%2 != 0 {
			return fmt.Errorf("page %d starts at an odd address", i)
		}
	}
	return nil
}

// split cuts a sequence's tokens, which start at row first, into attention
// tasks, the longest first: the last tasks decide how long members wait.
func (r *Runner) split(seq, first int) {
	c := &r.m.config
	tile := max(1, attendRows/(c.Heads/c.KVHeads))
	n := len(r.tokens) - first
	for at := (n - 1) / tile * tile; at >= 0; at -= tile {
		for head := range c.KVHeads {
			r.spans = append(r.spans, span{seq: seq, head: head, first: first + at, rows: min(tile, n-at)})
		}
	}
}

// multiply computes dst = src times lin for the given rows.
func (r *Runner) multiply(lin *linear, dst, src []float32, rows int) {
	r.lin, r.dst, r.src, r.rows = lin, dst, src, rows
	r.team.run(lin.width/lanes*((rows+tokenTile-1)/tokenTile), &r.productPhase)
}

// product is a task of multiply: one panel for a tile of rows. Tasks walk the
// panels first, so that neighbouring tasks read the same inputs.
func (r *Runner) product(member, task int) {
	lin := r.lin
	panels := lin.width / lanes
	col, first := task%panels*lanes, task/panels*tokenTile
	p := 0
	for p+1 < len(lin.parts) && col >= lin.offsets[p+1] {
		p++
	}
	w := lin.parts[p]
	rows := min(tokenTile, r.rows-first)
	dst, src := r.dst[first*lin.width+col:], r.src[first*w.cols:]
	row := (col - lin.offsets[p]) // of the matrix
	for i := range rows {
		out := dst[i*lin.width:][:lanes]
		clear(out)
		if bias := lin.biases[p]; bias != nil {
			copy(out, bias[row:])
		}
	}
	data := w.panel(row / lanes)
	if w.format == fmtF32 {
		kernel.outer(dst, lin.width, src, w.cols, floats(data), lanes, w.cols, rows)
		return
	}
	if rows == 1 && kernel.outerUnpack(dst, src, w.format, data, w.cols) {
		return
	}
	buf := r.memory[member].weights
	for k := 0; k < w.cols; k += unpackCols {
		end := min(k+unpackCols, w.cols)
		kernel.unpack(buf, w.format, data, k, end)
		kernel.outer(dst, lin.width, src[k:], w.cols, buf, lanes, end-k, rows)
	}
}

func floats(b []byte) []float32 { return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4) }

// embed starts a token's row with its embedding.
func (r *Runner) embed(_, row int) {
	t := r.tokens[row]
	s := &r.seqs[t.seq]
	r.m.embd.row(r.x[row*r.m.config.Hidden:], int(s.Tokens[t.pos-s.Start]))
}

// residual adds the last product's output to a token's row and returns the row.
func (r *Runner) residual(row int, width int) []float32 {
	h := r.m.config.Hidden
	x, add := r.x[row*h:][:h], r.projected[row*width:][:h]
	for i, v := range add {
		x[i] += v
	}
	return x
}

func (r *Runner) attnNorm(_, row int) {
	h := r.m.config.Hidden
	x := r.x[row*h:][:h]
	if r.layer > 0 {
		x = r.residual(row, r.m.layers[r.layer-1].down.width)
	}
	rmsNorm(r.normed[row*h:], x, r.m.layers[r.layer].attnNorm, r.m.config.RMSEps)
}

func (r *Runner) ffnNorm(_, row int) {
	l := &r.m.layers[r.layer]
	rmsNorm(r.normed[row*r.m.config.Hidden:], r.residual(row, l.out.width), l.ffnNorm, r.m.config.RMSEps)
}

func (r *Runner) activate(_, row int) {
	lin, n := &r.m.layers[r.layer].gateUp, r.m.config.FFN
	out := r.gateUp[row*lin.width:][:lin.width]
	kernel.silu(r.active[row*n:][:n], out[:n], out[lin.offsets[1]:][:n])
}

// finish normalises the i-th token whose logits are asked for. Its row moves to
// the front of normed, which nobody reads any more.
func (r *Runner) finish(_, i int) {
	last := &r.m.layers[len(r.m.layers)-1]
	rmsNorm(r.normed[i*r.m.config.Hidden:], r.residual(r.wanted[i], last.down.width), r.m.norm, r.m.config.RMSEps)
}
