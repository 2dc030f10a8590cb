package gpubench

// loadsPTX are the two loads of a GPU that an engine makes: a pass over memory,
// as decoding is, and products on the tensor cores, as prefilling is. The
// driver compiles them.
const loadsPTX = `
.version 7.8
.target sm_80
.address_size 64

// Reads n bytes at p, four times 16 bytes per thread and turn.
.visible .entry read_memory(.param .u64 p, .param .u64 n, .param .u64 out)
{
	.reg .pred %q<3>;
	.reg .b32 %r<32>;
	.reg .b64 %d<16>;
	ld.param.u64 %d1, [p];
	ld.param.u64 %d2, [n];
	ld.param.u64 %d3, [out];
	mov.u32 %r1, %ctaid.x;
	mov.u32 %r2, %ntid.x;
	mov.u32 %r3, %tid.x;
	mov.u32 %r4, %nctaid.x;
	mul.wide.u32 %d4, %r1, %r2;
	cvt.u64.u32 %d5, %r3;
	add.u64 %d4, %d4, %d5;
	shl.b64 %d4, %d4, 4;
	add.u64 %d6, %d1, %d4;
	add.u64 %d7, %d1, %d2;
	mul.wide.u32 %d8, %r4, %r2;
	shl.b64 %d8, %d8, 4;
	mov.u32 %r5, 0;
again:
	add.u64 %d9, %d6, %d8;
	add.u64 %d10, %d9, %d8;
	add.u64 %d11, %d10, %d8;
	setp.ge.u64 %q1, %d11, %d7;
	@%q1 bra over;
	ld.global.v4.u32 {%r10, %r11, %r12, %r13}, [%d6];
	ld.global.v4.u32 {%r14, %r15, %r16, %r17}, [%d9];
	ld.global.v4.u32 {%r18, %r19, %r20, %r21}, [%d10];
	ld.global.v4.u32 {%r22, %r23, %r24, %r25}, [%d11];
	xor.b32 %r10, %r10, %r11;
	xor.b32 %r12, %r12, %r13;
	xor.b32 %r14, %r14, %r15;
	xor.b32 %r16, %r16, %r17;
	xor.b32 %r18, %r18, %r19;
	xor.b32 %r20, %r20, %r21;
	xor.b32 %r22, %r22, %r23;
	xor.b32 %r24, %r24, %r25;
	xor.b32 %r10, %r10, %r12;
	xor.b32 %r14, %r14, %r16;
	xor.b32 %r18, %r18, %r20;
	xor.b32 %r22, %r22, %r24;
	xor.b32 %r10, %r10, %r14;
	xor.b32 %r18, %r18, %r22;
	xor.b32 %r5, %r5, %r10;
	xor.b32 %r5, %r5, %r18;
	add.u64 %d6, %d11, %d8;
	bra again;
over:
	setp.eq.u32 %q2, %r5, 19088743;
	@%q2 st.global.u32 [%d3], %r5;
	ret;
}

// Multiplies 16x16 by 16x8 tiles n times, four products in flight per warp.
.visible .entry products(.param .u64 n, .param .u64 out)
{
	.reg .pred %q<3>;
	.reg .b32 %r<16>;
	.reg .f32 %f<20>;
	.reg .b64 %d<8>;
	ld.param.u64 %d1, [n];
	ld.param.u64 %d2, [out];
	mov.u32 %r1, %tid.x;
	or.b32 %r2, %r1, 1065369472;
	or.b32 %r3, %r1, 1065369473;
	mov.f32 %f0, 0f00000000;
	mov.f32 %f1, 0f00000000;
	mov.f32 %f2, 0f00000000;
	mov.f32 %f3, 0f00000000;
	mov.f32 %f4, 0f00000000;
	mov.f32 %f5, 0f00000000;
	mov.f32 %f6, 0f00000000;
	mov.f32 %f7, 0f00000000;
	mov.f32 %f8, 0f00000000;
	mov.f32 %f9, 0f00000000;
	mov.f32 %f10, 0f00000000;
	mov.f32 %f11, 0f00000000;
	mov.f32 %f12, 0f00000000;
	mov.f32 %f13, 0f00000000;
	mov.f32 %f14, 0f00000000;
	mov.f32 %f15, 0f00000000;
again:
	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0, %f1, %f2, %f3}, {%r2, %r3, %r2, %r3}, {%r2, %r3}, {%f0, %f1, %f2, %f3};
	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f4, %f5, %f6, %f7}, {%r2, %r3, %r2, %r3}, {%r2, %r3}, {%f4, %f5, %f6, %f7};
	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f8, %f9, %f10, %f11}, {%r2, %r3, %r2, %r3}, {%r2, %r3}, {%f8, %f9, %f10, %f11};
	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f12, %f13, %f14, %f15}, {%r2, %r3, %r2, %r3}, {%r2, %r3}, {%f12, %f13, %f14, %f15};
	add.u64 %d1, %d1, -1;
	setp.ne.u64 %q1, %d1, 0;
	@%q1 bra again;
	add.f32 %f0, %f0, %f4;
	add.f32 %f0, %f0, %f8;
	add.f32 %f0, %f0, %f12;
	setp.eq.f32 %q2, %f0, 0f3F9D70A4;
	@%q2 st.global.f32 [%d2], %f0;
	ret;
}
`
