// Functions that kernels call: conversions of f16 (of bf16 with TERSOR_BF16), and the instructions of tensor cores (PTX ISA 8.0: ldmatrix, mma.sync, cp.async).
#include <cuda_fp16.h>
#pragma nv_diag_suppress 177  // a model calls only some of them
#define TERSOR static __device__ __forceinline__

#ifdef TERSOR_BF16
// the upper half of an f32, rounded to the nearest, ties to even; a NaN stays one
TERSOR float tersor_float(unsigned short bits) { return __uint_as_float((unsigned)bits << 16); }
TERSOR unsigned short tersor_half(float x) {
  unsigned u = __float_as_uint(x);
  return isnan(x) ? u >> 16 | 64 : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
#else
TERSOR float tersor_float(unsigned short bits) { return __half2float(__ushort_as_half(bits)); }
TERSOR unsigned short tersor_half(float x) { return __half_as_ushort(__float2half_rn(x)); }
#endif
TERSOR int tersor_int(const void *p) { return *(const int *)p; }

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
// 16 bytes from global to shared memory, done after tersor_copied
TERSOR void tersor_copy16(void *to, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from) : "memory");
}
TERSOR void tersor_copied() { asm volatile("cp.async.wait_all;" ::: "memory"); }

TERSOR unsigned tersor_tf32(float x) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// four 8 x 8 matrices of 16 bits; lane i gives the address of row i % 8 of matrix i / 8
TERSOR void tersor_ldmatrix(unsigned *r, const void *p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"((unsigned)__cvta_generic_to_shared(p))
               : "memory");
}

// c += a * b: 16 x 8 results of a warp, 32 bytes deep
#define TERSOR_MMA(name, acc, mode, types)                                                                              \
  TERSOR void name(acc *c, const unsigned *a, const unsigned *b) {                                                      \
    asm volatile("mma.sync.aligned." types " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"           \
                 : mode(c[0]), mode(c[1]), mode(c[2]), mode(c[3])                                                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                   \
  }
TERSOR_MMA(tersor_mma_f16, float, "+f", "m16n8k16.row.col.f32.f16.f16.f32")
TERSOR_MMA(tersor_mma_bf16, float, "+f", "m16n8k16.row.col.f32.bf16.bf16.f32")
TERSOR_MMA(tersor_mma_tf32, float, "+f", "m16n8k8.row.col.f32.tf32.tf32.f32")
TERSOR_MMA(tersor_mma_u8, int, "+r", "m16n8k32.row.col.s32.s8.u8.s32")
TERSOR_MMA(tersor_mma_i8, int, "+r", "m16n8k32.row.col.s32.s8.s8.s32")
#endif

