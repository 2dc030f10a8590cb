package llama

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// lanes is the rows of a panel: one panel's products for one token are four
// 16-lane vectors.
const lanes = 64

// quantBlock is the columns that share a scale.
const quantBlock = 32

// format is how a matrix is kept in memory.
type format uint8

const (
	fmtF32  format = iota
	fmtF16         // weights as stored
	fmtBF16        // weights as stored
	fmtQ8          // d as float16, q as int8: w = d*q
	fmtQ4          // d and m as float16, q of 4 bits: w = d*q + m
)

// matrix is a weight matrix, cut into panels of 64 rows (outputs) and stored
// column by column within a panel, so that a vector load takes the same column
// of 16 rows. Missing rows of the last panel are zero.
//
// Quantised panels hold, per 32 columns: the 64 rows' scales, for fmtQ4 their
// minima, and then the quants. A byte of fmtQ4 holds two neighbouring columns of
// one row, the first one low.
type matrix struct {
	rows, cols int
	format     format
	panels     int
	panelBytes int
	data       []byte
}

func padLanes(n int) int { return (n + lanes - 1) &^ (lanes - 1) }

// bytesPer is the bytes of all rows of a panel for a run of columns.
func (f format) bytesPer(cols int) int {
	switch f {
	case fmtF32:
		return cols * lanes * 4
	case fmtQ8:
		return cols / quantBlock * (2*lanes + quantBlock*lanes)
	case fmtQ4:
		return cols / quantBlock * (4*lanes + quantBlock/2*lanes)
	}
	return cols * lanes * 2
}

// formats keep each type of elements that we know, under GGUF's and safetensors'
// name.
var formats = map[string]format{"F32": fmtF32, "F16": fmtF16, "BF16": fmtBF16, "Q8_0": fmtQ8, "Q4_0": fmtQ4, "Q4_1": fmtQ4}

// newMatrix packs row-major weights. rowOf, if not nil, gives the file's row
// for each of ours.
func newMatrix(kind string, rows, cols int, data []byte, rowOf func(int) int) (*matrix, error) {
	f, ok := formats[kind]
	if !ok {
		return nil, fmt.Errorf("element type %s is not supported (supported: F32, F16, BF16, Q8_0, Q4_0, Q4_1)", kind)
	}
	w := &matrix{rows: rows, cols: cols, format: f, panels: padLanes(rows) / lanes, panelBytes: f.bytesPer(cols)}
	// Vector kernels load the last 8 bytes with 8 more behind them.
	w.data = make([]byte, w.panels*w.panelBytes, w.panels*w.panelBytes+8)
	stride := len(data) / rows
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for p := int(next.Add(1)) - 1; p < w.panels; p = int(next.Add(1)) - 1 {
				for lane := range min(lanes, rows-p*lanes) {
					row := p*lanes + lane
					if rowOf != nil {
						row = rowOf(row)
					}
					w.pack(p, lane, kind, data[row*stride:][:stride])
				}
			}
		})
	}
	wg.Wait()
	return w, nil
}

func (w *matrix) panel(p int) []byte { return w.data[p*w.panelBytes:][:w.panelBytes] }

// pack puts one row into its lane.
func (w *matrix) pack(p, lane int, kind string, row []byte) {
	dst := w.panel(p)
	switch w.format {
	case fmtF32:
		for k := range w.cols {
			copy(dst[(k*lanes+lane)*4:][:4], row[k*4:])
		}
	case fmtF16, fmtBF16:
		for k := range w.cols {
			copy(dst[(k*lanes+lane)*2:][:2], row[k*2:])
		}
	case fmtQ8:
		for ; len(row) > 0; row = row[34:] {
			copy(dst[lane*2:][:2], row)
			dst = dst[2*lanes:]
			for j, q := range row[2:34] {
				dst[j*lanes+lane] = q
			}
			dst = dst[quantBlock*lanes:]
		}
	case fmtQ4:
		for len(row) > 0 {
			copy(dst[lane*2:][:2], row)
			var quants []byte
			if kind == "Q4_1" {
				copy(dst[2*lanes+lane*2:][:2], row[2:4])
				quants, row = row[4:20], row[20:]
			} else {
				// Q4_0 is d*(q-8), which d*q + (-8d) gives exactly.
				d := halfToFloat(binary.LittleEndian.Uint16(row))
				binary.LittleEndian.PutUint16(dst[2*lanes+lane*2:], floatToHalf(-8*d))
				quants, row = row[2:18], row[18:]
			}
			dst = dst[4*lanes:]
			// GGUF's bytes hold columns j and j+16.
			for j := range quantBlock / 4 {
				a, b := quants[2*j], quants[2*j+1]
				dst[j*lanes+lane] = a&15 | b<<4
				dst[(j+quantBlock/4)*lanes+lane] = a>>4 | b&0xf0
			}
			dst = dst[quantBlock/2*lanes:]
		}
	}
}

// row writes one row of weights to dst: an embedding.
func (w *matrix) row(dst []float32, row int) {
	panel, lane := w.panel(row/lanes), row%lanes
	for k := range w.cols {
		dst[k] = w.format.at(panel, k, lane)
	}
}

// at is the weight in column k of a panel's lane.
func (f format) at(panel []byte, k, lane int) float32 {
	half := func(b []byte) uint16 { return binary.LittleEndian.Uint16(b[lane*2:]) }
	switch f {
	case fmtF32:
		return math.Float32frombits(binary.LittleEndian.Uint32(panel[(k*lanes+lane)*4:]))
	case fmtF16:
		return halfToFloat(half(panel[k*lanes*2:]))
	case fmtBF16:
		return bfloatToFloat(half(panel[k*lanes*2:]))
	case fmtQ8:
		block := panel[f.bytesPer(k&^(quantBlock-1)):]
		q := int8(block[2*lanes+k%quantBlock*lanes+lane])
		return float32(halfToFloat(half(block)) * float32(q))
	}
	block := panel[f.bytesPer(k&^(quantBlock-1)):]
	q := block[4*lanes+k%quantBlock/2*lanes+lane] >> (k % 2 * 4) & 15
	return fma32(float32(q), halfToFloat(half(block)), halfToFloat(half(block[2*lanes:])))
}

func bfloatToFloat(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// floatToBfloat rounds to nearest, ties to even.
func floatToBfloat(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40 // keep a NaN a NaN
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// halfToFloat shifts the exponent by a multiplication, which is exact and gets
// subnormals right. Infinities become large numbers: weights have none.
func halfToFloat(h uint16) float32 {
	f := math.Float32frombits(uint32(h&0x7fff)<<13) * 0x1p112
	return math.Float32frombits(math.Float32bits(f) | uint32(h&0x8000)<<16)
}

// floatToHalf is exact for values that a float16 can hold, which is all that it
// is used for; others are cut off.
func floatToHalf(f float32) uint16 {
	b := math.Float32bits(f)
	magnitude := math.Float32bits(math.Float32frombits(b&0x7fffffff) * 0x1p-112)
	return uint16(b>>16)&0x8000 | uint16(min(magnitude>>13, 0x7bff))
}
