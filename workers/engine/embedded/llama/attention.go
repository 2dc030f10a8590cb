package llama

import (
	"math"
	"unsafe"
)

// layerPage is the current layer's part of a page.
func (r *Runner) layerPage(page []byte) (keys, values []uint16) {
	size := r.m.layerBytes(r.blockSize)
	part := page[r.layer*size:][:size]
	all := unsafe.Slice((*uint16)(unsafe.Pointer(&part[0])), size/2)
	return all[:size/4], all[size/4:]
}

// storeKV normalises and rotates a token's query and keys, in place, and stores
// its keys and values.
func (r *Runner) storeKV(_, row int) {
	c, l, t := &r.m.config, &r.m.layers[r.layer], r.tokens[row]
	d, bs := c.HeadDim, r.blockSize
	all := r.qkv[row*l.qkv.width:][:l.qkv.width]
	scale := float32(1 / math.Sqrt(float64(d)))
	for h := range c.Heads {
		q := all[h*d:][:d]
		if l.qNorm != nil {
			rmsNorm(q, q, l.qNorm, c.RMSEps)
		}
		r.rope.rotate(q, t.pos)
		for i := range q {
			q[i] *= scale
		}
	}
	keys, values := r.layerPage(r.seqs[t.seq].Pages[t.pos/bs])
	at := t.pos % bs
	for h := range c.KVHeads {
		k, v := all[l.qkv.offsets[1]+h*d:][:d], all[l.qkv.offsets[2]+h*d:][:d]
		if l.kNorm != nil {
			rmsNorm(k, k, l.kNorm, c.RMSEps)
		}
		r.rope.rotate(k, t.pos)
		for i, x := range k {
			keys[(h*d+i)*bs+at] = floatToBfloat(x)
		}
		for i, x := range v {
			values[(h*bs+at)*d+i] = floatToBfloat(x)
		}
	}
}

// attend is one span's attention. Scores are computed against 64 positions at a
// time and kept for all of them; then values are added up in the order of
// positions.
func (r *Runner) attend(member, task int) {
	c, s, mem := &r.m.config, r.spans[task], &r.memory[member]
	d, group, width := c.HeadDim, c.Heads/c.KVHeads, r.m.layers[r.layer].qkv.width
	rows, dp := s.rows*group, padLanes(c.HeadDim)
	pages := r.seqs[s.seq].Pages
	start := r.tokens[s.first].pos
	reach := start + s.rows // positions that some row sees
	ld := padLanes(reach)
	q, scores, out := mem.q[:rows*d], mem.scores[:rows*ld], mem.out[:rows*dp]
	for i := range s.rows {
		copy(q[i*group*d:][:group*d], r.qkv[(s.first+i)*width+s.head*group*d:])
	}
	clear(scores)
	for at := 0; at < reach; at += lanes {
		r.keys(mem.kv, pages, s.head, at, min(lanes, reach-at))
		kernel.outer(scores[at:], ld, q, d, mem.kv, lanes, d, rows)
	}
	clear(out)
	for i := range rows {
		// The rest of the row, up to a whole vector, is what later rows see.
		row := scores[i*ld:][:ld]
		seen := start + i/group + 1
		for j := seen; j < ld; j++ {
			row[j] = float32(math.Inf(-1))
		}
		mem.q[i] = kernel.softmax(row) // the queries are done with
	}
	for at := 0; at < reach; at += lanes {
		n := min(lanes, reach-at)
		r.values(mem.kv, pages, s.head, at, n)
		for col := 0; col < dp; col += lanes {
			kernel.outer(out[col:], dp, scores[at:], ld, mem.kv[col:], dp, n, rows)
		}
	}
	for i := range rows {
		dst := r.attn[((s.first+i/group)*c.Heads+s.head*group+i%group)*d:][:d]
		inverse := 1 / mem.q[i]
		for j, x := range out[i*dp:][:d] {
			// Adding zero makes -0 (from positions that a row does not see) 0.
			dst[j] = float32(x*inverse) + 0
		}
	}
}

// keys fetches n positions from at (a multiple of 64) of one head, dimension by
// dimension, 64 apart.
func (r *Runner) keys(dst []float32, pages [][]byte, head, at, n int) {
	d, bs := r.m.config.HeadDim, r.blockSize
	for i := 0; i < n; {
		in := (at + i) % bs
		run := min(bs-in, n-i)
		keys, _ := r.layerPage(pages[(at+i)/bs])
		// Whole vectors are quicker; what is too much is never looked at.
		whole := min((run+15)&^15, bs-in, lanes-i)
		kernel.widen(dst[i:], lanes, keys[head*d*bs+in:], bs, d, whole)
		i += run
	}
}

// values fetches n positions from at of one head, position by position.
func (r *Runner) values(dst []float32, pages [][]byte, head, at, n int) {
	d, bs, dp := r.m.config.HeadDim, r.blockSize, padLanes(r.m.config.HeadDim)
	for i := 0; i < n; {
		in := (at + i) % bs
		run := min(bs-in, n-i)
		_, values := r.layerPage(pages[(at+i)/bs])
		kernel.widen(dst[i*dp:], dp, values[(head*bs+in)*d:], d, run, d)
		i += run
	}
}
