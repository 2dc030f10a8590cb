//go:build goexperiment.simd && amd64

#include "textflag.h"

#define ROW(x, c0, c1, c2, c3) \
	VBROADCASTSS x, Z28        \
	VFMADD231PS  Z24, Z28, c0  \
	VFMADD231PS  Z25, Z28, c1  \
	VFMADD231PS  Z26, Z28, c2  \
	VFMADD231PS  Z27, Z28, c3

#define LOAD(at, c0, c1, c2, c3) \
	VMOVUPS 0 at, c0    \
	VMOVUPS 64 at, c1  \
	VMOVUPS 128 at, c2 \
	VMOVUPS 192 at, c3

#define STORE(at, c0, c1, c2, c3) \
	VMOVUPS c0, 0 at   \
	VMOVUPS c1, 64 at  \
	VMOVUPS c2, 128 at \
	VMOVUPS c3, 192 at

// func outer6(c ptr, ldc int, a ptr, lda int, b ptr, ldb, k int)
TEXT ·outer6(SB), NOSPLIT, $0-56
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
	LOAD((AX), Z0, Z1, Z2, Z3)
	LOAD((AX)(BX*1), Z4, Z5, Z6, Z7)
	LOAD((AX)(BX*2), Z8, Z9, Z10, Z11)
	LOAD((R10), Z12, Z13, Z14, Z15)
	LOAD((R10)(BX*1), Z16, Z17, Z18, Z19)
	LOAD((R10)(BX*2), Z20, Z21, Z22, Z23)

loop:
	VMOVUPS (DX), Z24
	VMOVUPS 64(DX), Z25
	VMOVUPS 128(DX), Z26
	VMOVUPS 192(DX), Z27
	ROW((SI), Z0, Z1, Z2, Z3)
	ROW((SI)(DI*1), Z4, Z5, Z6, Z7)
	ROW((SI)(DI*2), Z8, Z9, Z10, Z11)
	ROW((R9), Z12, Z13, Z14, Z15)
	ROW((R9)(DI*1), Z16, Z17, Z18, Z19)
	ROW((R9)(DI*2), Z20, Z21, Z22, Z23)
	ADDQ $4, SI
	ADDQ $4, R9
	ADDQ R8, DX
	DECQ CX
	JNZ  loop

	STORE((AX), Z0, Z1, Z2, Z3)
	STORE((AX)(BX*1), Z4, Z5, Z6, Z7)
	STORE((AX)(BX*2), Z8, Z9, Z10, Z11)
	STORE((R10), Z12, Z13, Z14, Z15)
	STORE((R10)(BX*1), Z16, Z17, Z18, Z19)
	STORE((R10)(BX*2), Z20, Z21, Z22, Z23)
	VZEROUPPER
	RET
