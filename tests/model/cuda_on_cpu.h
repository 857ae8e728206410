// Enough of CUDA to run the kernels of sedd/model/fused on a CPU: the threads of a block take turns, each until it waits for others,
// one block after the other. It proves what a kernel computes, not that it is free of races on a GPU.

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <utility>

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(...)

struct Dim { unsigned x = 0, y = 0, z = 0; };
static Dim threadIdx, blockIdx, blockDim;

template <typename T> T min(T a, T b) { return b < a ? b : a; }
template <typename T> T max(T a, T b) { return a < b ? b : a; }
inline float __expf(float x) { return expf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }

inline float half_to_float(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                     : exponent ? ldexpf(float(fraction + 1024), exponent - 25) : ldexpf(float(fraction), -24);
    return bits >> 15 ? -size : size;
}

inline unsigned short float_to_half(float x) {  // to the nearest, ties to even: nearbyint's default
    const unsigned short sign = signbit(x) ? 0x8000 : 0;
    const float size = fabsf(x);
    if (isnan(x)) return 0x7e00;
    if (size == 0) return sign;
    if (size >= 65520) return sign | 0x7c00;
    int exponent;
    frexpf(size, &exponent);
    const int unit = max(exponent - 11, -24);  // of the last place
    const int units = int(nearbyintf(ldexpf(size, -unit)));
    return sign | (unit == -24 ? units : (unit + 24) * 1024 + units);
}

// A thread is a stack and a place on it. Whoever waits gives its turn away.

constexpr unsigned MOST_THREADS = 1024, STACK = 1 << 18;

struct Thread { char* stack; ucontext_t start; jmp_buf place; bool has_begun, is_done; };
static Thread threads[MOST_THREADS];
static jmp_buf taking_turns;
static unsigned running;
static bool something_happened;

struct Barrier {
    unsigned expected, arrived, times;

    __attribute__((noinline)) void wait() {
        const unsigned before = times;
        if (++arrived == expected) arrived = 0, ++times, something_happened = true;
        while (times == before)
            if (!_setjmp(threads[threadIdx.x].place)) _longjmp(taking_turns, 1);
    }
};
static Barrier of_block, of_some[16], of_warps[MOST_THREADS / 32];
static float lanes[MOST_THREADS];

inline void __syncthreads() { of_block.wait(); }
inline void wait_for_some(int number, int threads) { of_some[number].expected = threads, of_some[number].wait(); }
inline void __syncwarp() { of_warps[threadIdx.x / 32].wait(); }

inline float __shfl_xor_sync(unsigned, float value, int mask) {
    lanes[threadIdx.x] = value;
    __syncwarp();
    const float other = lanes[threadIdx.x ^ mask];
    __syncwarp();
    return other;
}

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

inline float power_of_2(float x) { return exp2f(x); }
inline float log_of_base_2(float x) { return log2f(x); }

// What a launch asks for of shared memory: as much as a V100 has for a block. Filled with NaN before.
constexpr unsigned MOST_SHARED = 96 * 1024;
alignas(128) static char shared_memory[MOST_SHARED];
inline void* given_memory() { return shared_memory; }

template <typename... Arguments, size_t... I>
void call(void (*kernel)(Arguments...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<Arguments*>(arguments[I])...);
}

struct Launch { void (*call)(const Launch&); void* kernel; unsigned grid_x, grid_y; void** arguments; };
static Launch launched;

template <typename... Arguments> void call_kernel(const Launch& one) {
    call(reinterpret_cast<void (*)(Arguments...)>(one.kernel), one.arguments, std::index_sequence_for<Arguments...>());
}

static void run_thread() {
    for (unsigned y = 0; y < launched.grid_y; ++y)
        for (unsigned x = 0; x < launched.grid_x; ++x) {
            blockIdx = {x, y, 0};
            launched.call(launched);
            __syncthreads();
        }
    threads[threadIdx.x].is_done = something_happened = true;
    --running;
    _longjmp(taking_turns, 1);
}

static void take_turn(unsigned number) {
    Thread& thread = threads[number];
    threadIdx = {number, 0, 0};
    if (_setjmp(taking_turns)) return;
    if (thread.has_begun) _longjmp(thread.place, 1);
    thread.has_begun = true;
    setcontext(&thread.start);
}

static void prepare(Thread& thread) {
    if (!thread.stack)
        thread.stack = static_cast<char*>(mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    thread.has_begun = thread.is_done = false;
    getcontext(&thread.start);
    thread.start.uc_stack.ss_sp = thread.stack;
    thread.start.uc_stack.ss_size = STACK;
    makecontext(&thread.start, run_thread, 0);
}

// As cuLaunchKernel: `arguments` points to each argument.
template <typename... Arguments>
void launch(void (*kernel)(Arguments...), unsigned grid_x, unsigned grid_y, unsigned count, void** arguments) {
    launched = {call_kernel<Arguments...>, reinterpret_cast<void*>(kernel), grid_x, grid_y, arguments};
    blockDim = {count, 1, 1};
    of_block = {count, 0, 0};
    for (unsigned first = 0; first < count; first += 32) of_warps[first / 32] = {min(32u, count - first), 0, 0};
    for (unsigned number = 0; number < count; ++number) prepare(threads[number]);
    // Backwards and forwards in turn: where a barrier is missing, somebody then reads what is not yet written.
    running = count;
    for (bool forwards = false; running; forwards = !forwards) {
        something_happened = false;
        for (unsigned turn = 0; turn < count; ++turn) {
            const unsigned number = forwards ? turn : count - 1 - turn;
            if (!threads[number].is_done) take_turn(number);
        }
        if (!something_happened) fputs("a barrier that not all threads reach\n", stderr), abort();
    }
}

#include KERNELS

extern "C" int launch_by_name(const char* name, unsigned grid_x, unsigned grid_y, unsigned threads, unsigned shared, void** arguments) {
    if (shared > MOST_SHARED) return 1;
    memset(shared_memory, 0xff, MOST_SHARED);
#define KERNEL(kernel) if (!strcmp(name, #kernel)) return launch(kernel, grid_x, grid_y, threads, arguments), 0;
#include "by_name.h"
    return 1;
}
