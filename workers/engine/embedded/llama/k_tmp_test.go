package llama
import ("testing";"unsafe")
func BenchmarkK(b *testing.B) {
	const cols=96
	panel := make([]byte, fmtQ8.bytesPer(cols)+64)
	w := alignedFloats(cols*lanes)
	a := alignedFloats(126*cols)
	c := alignedFloats(126*lanes)
	pw,pa,pc,pp := ptr(&w[0]),ptr(&a[0]),ptr(&c[0]),ptr(&panel[0])
	_ = unsafe.Add(pw,0)
	bench := func(name string, f func()) { b.Run(name, func(b *testing.B){ for b.Loop() { f() } }) }
	bench("outer126/512", func(){ outer(c,lanes,a,cols,w,lanes,cols,126) })
	bench("outer126/2", func(){ outerAVX2(pc,4*lanes,pa,4*cols,pw,4*lanes,cols,126) })
	bench("outer4/512", func(){ outer(c,lanes,a,cols,w,lanes,cols,4) })
	bench("outer4/2", func(){ outerAVX2(pc,4*lanes,pa,4*cols,pw,4*lanes,cols,4) })
	bench("outer1/512", func(){ outer(c,lanes,a,cols,w,lanes,cols,1) })
	bench("outer1/2", func(){ outerAVX2(pc,4*lanes,pa,4*cols,pw,4*lanes,cols,1) })
	bench("unpackQ4/512", func(){ unpack(w,fmtQ4,panel,0,cols) })
	bench("unpackQ4/2", func(){ for k:=range cols/32 { for s:=range 2 { unpackQ4AVX2(unsafe.Add(pw,k*32*4*lanes),unsafe.Add(pp,k*fmtQ4.bytesPer(32)),s) }} })
	bench("unpackQ8/512", func(){ unpack(w,fmtQ8,panel,0,cols) })
	bench("unpackQ8/2", func(){ for k:=range cols/32 { for s:=range 2 { unpackQ8AVX2(unsafe.Add(pw,k*32*4*lanes),unsafe.Add(pp,k*fmtQ8.bytesPer(32)),s) }} })
	bench("outerQ4/512", func(){ outerQ4(pc,pa,pp,cols/32) })
	bench("outerQ4/2", func(){ for k:=range cols/32 { for s:=range 2 { outerQ4AVX2(pc,unsafe.Add(pa,k*32*4),unsafe.Add(pp,k*fmtQ4.bytesPer(32)),s) }} })
	bench("outerQ8/512", func(){ outerQ8(pc,pa,pp,cols/32) })
	bench("outerQ8/2", func(){ for k:=range cols/32 { for s:=range 2 { outerQ8AVX2(pc,unsafe.Add(pa,k*32*4),unsafe.Add(pp,k*fmtQ8.bytesPer(32)),s) }} })
}
