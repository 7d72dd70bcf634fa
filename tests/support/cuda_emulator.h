// CUDA C++ on the CPU: a block at a time, a system thread for each of its threads. What lanes of a warp exchange follows the PTX ISA's tables
// of fragments (sections "ldmatrix", "Matrix Fragments for mma.m16n8k8", "mma.m16n8k16 with floating point type" and "mma.m16n8k32").
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>
#include <sys/types.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define alignas(n) __attribute__((aligned(n)))
using std::isnan, std::signbit, std::max, std::min;
typedef unsigned char uchar;

struct Index { unsigned x, y, z; };
static thread_local Index threadIdx, blockIdx;
static std::unique_ptr<std::barrier<>> of_block;
static std::vector<std::unique_ptr<std::barrier<>>> of_warp;
static void __syncthreads() { of_block->arrive_and_wait(); }

static float __int_as_float(int bits) { float x; memcpy(&x, &bits, 4); return x; }
static float __fmul_rn(float a, float b) { volatile float y = a * b; return y; }
static float __fadd_rn(float a, float b) { volatile float y = a + b; return y; }

static float of_half(uint16_t bits) { _Float16 x; memcpy(&x, &bits, 2); return (float)x; }
static float of_bf16(uint16_t bits) { return __int_as_float(bits << 16); }
#ifdef TERSOR_BF16
static float tersor_float(unsigned short bits) { return of_bf16(bits); }
static unsigned short tersor_half(float x) {
  // of the two neighbours the nearer one; between them the one whose last bit is 0
  if (isnan(x)) return 0x7fc0;
  uint32_t u; memcpy(&u, &x, 4);
  uint32_t rest = u % 65536, low = u / 65536;
  return rest > 32768 || (rest == 32768 && low % 2) ? low + 1 : low;
}
#else
static float tersor_float(unsigned short bits) { return of_half(bits); }
static unsigned short tersor_half(float x) { _Float16 y = (_Float16)x; uint16_t bits; memcpy(&bits, &y, 2); return bits; }
#endif
static unsigned tersor_tf32(float x) {
  // 10 bits after the leading one, ties away from zero
  int e; double m = frexp((double)x, &e);
  float y = x == 0 || !std::isfinite(x) ? x : (float)ldexp(std::round(ldexp(m, 11)), e - 11);
  unsigned bits; memcpy(&bits, &y, 4); return bits;
}
static int tersor_int(const void *p) { int x; memcpy(&x, p, 4); return x; }
static void tersor_copied() {}
static void tersor_copy16(void *to, const void *from) {
  if ((uintptr_t)to % 16 || (uintptr_t)from % 16) abort();
  memcpy(to, from, 16);
}

// -- what lanes of a warp exchange
struct Exchange { const void *row[32]; unsigned a[32][4], b[32][2]; };
static Exchange exchange[32];
static int lane() { return threadIdx.x % 32; }
static Exchange &warp() { return exchange[threadIdx.x / 32]; }
static void together() { of_warp[threadIdx.x / 32]->arrive_and_wait(); }

static void tersor_ldmatrix(unsigned *r, const void *p) {
  if ((uintptr_t)p % 16) abort();
  warp().row[lane()] = p;
  together();
  for (int matrix = 0; matrix < 4; matrix++) memcpy(&r[matrix], (const char *)warp().row[8 * matrix + lane() / 4] + 4 * (lane() % 4), 4);
  together();
}

// the element of a fragment register: `per` elements a register, each `8 * 4 / per / 8` bytes
template <class T> static T part(unsigned word, int i) { T x; memcpy(&x, (const char *)&word + i * sizeof(T), sizeof(T)); return x; }

template <class A, class B, class Acc, class Value> static void mma(Acc *c, const unsigned *a, const unsigned *b, Value value) {
  constexpr int per = 4 / sizeof(A), deep = 8 * per;
  memcpy(warp().a[lane()], a, 16);
  memcpy(warp().b[lane()], b, 8);
  together();
  for (int i = 0; i < 4; i++) {
    int row = lane() / 4 + (i >= 2 ? 8 : 0), column = lane() % 4 * 2 + (i & 1);
    for (int k = 0; k < deep; k++) {
      int within = k % (deep / 2), later = k / (deep / 2);
      // the group is the row (of b the column), the thread in it holds `per` neighbours along the depth
      unsigned of_a = warp().a[row % 8 * 4 + within / per][2 * later + row / 8], of_b = warp().b[column * 4 + within / per][later];
      c[i] += value(part<A>(of_a, within % per)) * value(part<B>(of_b, within % per));
    }
  }
  together();
}
static void tersor_mma_f16(float *c, const unsigned *a, const unsigned *b) { mma<uint16_t, uint16_t>(c, a, b, of_half); }
static void tersor_mma_bf16(float *c, const unsigned *a, const unsigned *b) { mma<uint16_t, uint16_t>(c, a, b, of_bf16); }
static void tersor_mma_tf32(float *c, const unsigned *a, const unsigned *b) {
  // the hardware ignores the lowest 13 bits; here they must be 0
  mma<uint32_t, uint32_t>(c, a, b, [](uint32_t bits) { if (bits % 8192) abort(); return __int_as_float(bits); });
}
static void tersor_mma_u8(int *c, const unsigned *a, const unsigned *b) { mma<int8_t, uint8_t>(c, a, b, [](auto x) { return (int)x; }); }
static void tersor_mma_i8(int *c, const unsigned *a, const unsigned *b) { mma<int8_t, int8_t>(c, a, b, [](auto x) { return (int)x; }); }

template <class Kernel> static void launch(const int *blocks, int threads, Kernel kernel) {
  of_block = std::make_unique<std::barrier<>>(threads);
  of_warp.clear();
  for (int i = 0; i < threads; i += 32) of_warp.push_back(std::make_unique<std::barrier<>>(std::min(32, threads - i)));
  std::vector<std::thread> running;
  for (int i = 0; i < threads; i++) running.emplace_back([=] {
    threadIdx = {(unsigned)i, 0, 0};
    for (int z = 0; z < blocks[2]; z++) for (int y = 0; y < blocks[1]; y++) for (int x = 0; x < blocks[0]; x++) {
      blockIdx = {(unsigned)x, (unsigned)y, (unsigned)z};
      kernel();
      __syncthreads();
    }
  });
  for (auto &thread : running) thread.join();
}
