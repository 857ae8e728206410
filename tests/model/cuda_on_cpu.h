// Enough of CUDA to run the kernels of sedd/model/fused on a CPU: a thread for each thread of a block, one block after the other.
// Slow, and in the order of the code: it proves what a kernel computes, not that it is free of races on a GPU.

#include <barrier>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(...)

struct Dim { unsigned x = 0, y = 0, z = 0; };
static thread_local Dim threadIdx, blockIdx;
static Dim blockDim;

using std::min;
inline float __expf(float x) { return std::exp(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline float __uint_as_float(unsigned bits) { float x; std::memcpy(&x, &bits, 4); return x; }
inline unsigned __float_as_uint(float x) { unsigned bits; std::memcpy(&bits, &x, 4); return bits; }

inline float half_to_float(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                     : exponent ? std::ldexp(float(fraction + 1024), exponent - 25) : std::ldexp(float(fraction), -24);
    return bits >> 15 ? -size : size;
}

inline unsigned short float_to_half(float x) {  // to the nearest, ties to even: nearbyint's default
    const unsigned short sign = std::signbit(x) ? 0x8000 : 0;
    const float size = std::fabs(x);
    if (std::isnan(x)) return 0x7e00;
    if (size == 0) return sign;
    if (size >= 65520) return sign | 0x7c00;
    int exponent;
    std::frexp(size, &exponent);
    const int unit = std::max(exponent - 11, -24);  // of the last place
    const int units = int(std::nearbyint(std::ldexp(size, -unit)));
    return sign | (unit == -24 ? units : (unit + 24) * 1024 + units);
}

static std::unique_ptr<std::barrier<>> block_barrier;
static std::vector<std::unique_ptr<std::barrier<>>> warp_barriers;
static std::vector<float> lanes;

inline void __syncthreads() { block_barrier->arrive_and_wait(); }

inline float __shfl_xor_sync(unsigned, float value, int mask) {
    std::barrier<>& warp = *warp_barriers[threadIdx.x / 32];
    lanes[threadIdx.x] = value;
    warp.arrive_and_wait();
    const float other = lanes[threadIdx.x ^ mask];
    warp.arrive_and_wait();
    return other;
}

inline void __syncwarp() { warp_barriers[threadIdx.x / 32]->arrive_and_wait(); }

// Matrices of 16 x 16: each lane holds the factors whole, and of sums eight entries: where, differs between real cards.

template <bool TURNED> struct Left { float at[256]; };
template <bool TURNED> struct Right { float at[256]; };
struct Sums { float at[8]; };

static int layout_of_sums = 0;
extern "C" void choose_layout(int which) { layout_of_sums = which; }

inline int place_in_sums(int i) {  // row times 16 plus column
    int lane = threadIdx.x % 32;
    if (layout_of_sums == 0)  // from Turing on
        return (lane / 4 + (i & 2) * 4) * 16 + lane % 4 * 2 + (i & 4) * 2 + (i & 1);
    if (layout_of_sums == 2) lane = lane >> 2 | (lane & 3) << 3;  // nobody's
    return ((lane & 1) + (i & 2) + (lane >> 4) * 4 + (lane & 4) * 2) * 16 + (lane & 2) + (i & 4) + (lane & 8) + (i & 1);  // Volta
}

template <bool TURNED> void load_entries(float (&to)[256], const unsigned short* from, int stride) {
    for (int row = 0; row < 16; ++row)
        for (int column = 0; column < 16; ++column)
            to[16 * row + column] = half_to_float(TURNED ? from[column * stride + row] : from[row * stride + column]);
}

template <bool TURNED> void load_matrix(Left<TURNED>& a, const unsigned short* from, int stride) { load_entries<TURNED>(a.at, from, stride); }
template <bool TURNED> void load_matrix(Right<TURNED>& b, const unsigned short* from, int stride) { load_entries<TURNED>(b.at, from, stride); }

inline void load_matrix(Sums& c, const float* from, int stride) {
    for (int i = 0; i < 8; ++i) c.at[i] = from[place_in_sums(i) / 16 * stride + place_in_sums(i) % 16];
}

template <bool A, bool B> void multiply(Sums& c, const Left<A>& a, const Right<B>& b) {
    for (int i = 0; i < 8; ++i)
        for (int k = 0, place = place_in_sums(i); k < 16; ++k) c.at[i] += a.at[place / 16 * 16 + k] * b.at[16 * k + place % 16];
}

inline float power_of_2(float x) { return std::exp2(x); }
inline float log_of_base_2(float x) { return std::log2(x); }

template <typename... Arguments, size_t... I>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<Arguments*>(arguments[I])...);
}

// As cuLaunchKernel: `arguments` points to each argument.
template <typename... Arguments>
void launch(void (*kernel)(Arguments...), unsigned grid_x, unsigned grid_y, unsigned threads, void** arguments) {
    blockDim = {threads, 1, 1};
    lanes.assign(threads, 0);
    block_barrier = std::make_unique<std::barrier<>>(threads);
    warp_barriers.clear();
    for (unsigned warp = 0; warp < (threads + 31) / 32; ++warp)
        warp_barriers.push_back(std::make_unique<std::barrier<>>(std::min(32u, threads - 32 * warp)));
    std::vector<std::thread> running;
    for (unsigned thread = 0; thread < threads; ++thread)
        running.emplace_back([=] {
            threadIdx = {thread, 0, 0};
            for (unsigned y = 0; y < grid_y; ++y)
                for (unsigned x = 0; x < grid_x; ++x) {
                    blockIdx = {x, y, 0};
                    call(kernel, arguments, std::index_sequence_for<Arguments...>());
                    __syncthreads();
                }
        });
    for (std::thread& one : running) one.join();
}

#include KERNELS

extern "C" int launch_by_name(const char* name, unsigned grid_x, unsigned grid_y, unsigned threads, void** arguments) {
    const std::string asked = name;
#define KERNEL(kernel) if (asked == #kernel) return launch(kernel, grid_x, grid_y, threads, arguments), 0;
#include "by_name.h"
    return 1;
}
