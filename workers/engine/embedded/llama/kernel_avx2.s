//go:build goexperiment.simd && amd64

#include "textflag.h"

#define ROW(x, c0, c1)       \
	VBROADCASTSS x, Y14      \
	VFMADD231PS  Y12, Y14, c0 \
	VFMADD231PS  Y13, Y14, c1

#define LOAD(at, c0, c1) \
	VMOVUPS 0 at, c0  \
	VMOVUPS 32 at, c1

#define STORE(at, c0, c1) \
	VMOVUPS c0, 0 at  \
	VMOVUPS c1, 32 at

// func outer6x16(c ptr, ldc int, a ptr, lda int, b ptr, ldb, k int)
TEXT ·outer6x16(SB), NOSPLIT, $0-56
	MOVQ c+0(FP), AX
	MOVQ ldc+8(FP), BX
	MOVQ a+16(FP), SI
	MOVQ lda+24(FP), DI
	MOVQ b+32(FP), DX
	MOVQ ldb+40(FP), R8
	MOVQ k+48(FP), CX
	LEAQ (BX)(BX*2), R10
	ADDQ AX, R10
	LEAQ (DI)(DI*2), R9
	ADDQ SI, R9
	LOAD((AX), Y0, Y1)
	LOAD((AX)(BX*1), Y2, Y3)
	LOAD((AX)(BX*2), Y4, Y5)
	LOAD((R10), Y6, Y7)
	LOAD((R10)(BX*1), Y8, Y9)
	LOAD((R10)(BX*2), Y10, Y11)

loop:
	LOAD((DX), Y12, Y13)
	ROW((SI), Y0, Y1)
	ROW((SI)(DI*1), Y2, Y3)
	ROW((SI)(DI*2), Y4, Y5)
	ROW((R9), Y6, Y7)
	ROW((R9)(DI*1), Y8, Y9)
	ROW((R9)(DI*2), Y10, Y11)
	ADDQ $4, SI
	ADDQ $4, R9
	ADDQ R8, DX
	DECQ CX
	JNZ  loop

	STORE((AX), Y0, Y1)
	STORE((AX)(BX*1), Y2, Y3)
	STORE((AX)(BX*2), Y4, Y5)
	STORE((R10), Y6, Y7)
	STORE((R10)(BX*1), Y8, Y9)
	STORE((R10)(BX*2), Y10, Y11)
	VZEROUPPER
	RET
