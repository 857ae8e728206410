// What lies between the matrix products of a block, in one pass over memory each. See fused.py.
//
// Compiled at run time for the card at hand (nvrtc.py): needs no header and no Triton. Compiled for 7.0 to 9.0, run on 9.0.
// Given by the compiler's options: HIDDEN, the width of a row; THREADS, a multiple of 32 that covers HIDDEN / 4;
// BLOCKS, how many a multiprocessor shall hold at once; ROWS, tokens of a tile; IN and OUT, the number formats of what
// enters from a branch and of what leaves: 0 float32, 1 float16, 2 bfloat16.
//
// A block of threads goes through the rows of one tile, four columns a thread. All sums have a fixed order.

typedef unsigned int u32;
typedef unsigned long long u64;

// Number formats, as bits: their types are in headers that a user's machine may lack.

template <int FORMAT> struct Bits { typedef unsigned short type; };
template <> struct Bits<0> { typedef float type; };
typedef Bits<IN>::type In;
typedef Bits<OUT>::type Out;

#ifdef __CUDACC__
__device__ float half_to_float(unsigned short bits) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}

__device__ unsigned short float_to_half(float wide) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(wide));
    return bits;
}
#endif  // elsewhere, in tests/model/cuda_on_cpu.h

template <int FORMAT> __device__ float widen(typename Bits<FORMAT>::type bits) {
    if constexpr (FORMAT == 0) return bits;
    if constexpr (FORMAT == 1) return half_to_float(bits);
    if constexpr (FORMAT == 2) return __uint_as_float(u32(bits) << 16);
}

template <int FORMAT> __device__ typename Bits<FORMAT>::type narrow(float wide) {
    if constexpr (FORMAT == 0) return wide;
    if constexpr (FORMAT == 1) return float_to_half(wide);
    if constexpr (FORMAT == 2) {
        const u32 bits = __float_as_uint(wide);
        if (wide != wide) return 0x7fc0;
        return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // to the nearest, ties to even
    }
}

// Neighbours in one access to memory: four columns, or eight.

template <typename T, int N> struct alignas(N * sizeof(T)) Vector { T at[N]; };

template <int FORMAT, int N> __device__ void load(const typename Bits<FORMAT>::type* from, float (&to)[N]) {
    typedef Vector<typename Bits<FORMAT>::type, N> Neighbours;
    const Neighbours bits = *reinterpret_cast<const Neighbours*>(from);
    for (int i = 0; i < N; ++i) to[i] = widen<FORMAT>(bits.at[i]);
}

template <int FORMAT, int N> __device__ void store(typename Bits<FORMAT>::type* to, const float (&from)[N]) {
    typedef Vector<typename Bits<FORMAT>::type, N> Neighbours;
    Neighbours bits;
    for (int i = 0; i < N; ++i) bits.at[i] = narrow<FORMAT>(from[i]);
    *reinterpret_cast<Neighbours*>(to) = bits;
}

// Dropout: which of four neighbours are kept is a function of the seed, the place in the network and the position.

// Philox4x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") with 7 rounds, the fewest that pass
// BigCrush.
__device__ void philox(u64 seed, u64 index, u32 place, u32 drawn[4]) {
    u32 key[2] = {u32(seed), u32(seed >> 32)};
    u32 c[4] = {u32(index), u32(index >> 32), place, 0};
    for (int round = 0; round < 7; ++round) {
        const u64 a = u64(0xD2511F53u) * c[0], b = u64(0xCD9E8D57u) * c[2];
        const u32 next[4] = {u32(b >> 32) ^ c[1] ^ key[0], u32(b), u32(a >> 32) ^ c[3] ^ key[1], u32(a)};
        for (int i = 0; i < 4; ++i) c[i] = next[i];
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; ++i) drawn[i] = c[i];
}

struct Dropout {
    u64 seed;
    u32 place;
    u32 threshold;  // of 2^32: below, an entry is dropped
    float scale;    // of those that stay

    __device__ void factors(u64 index, float factor[4]) const {
        u32 drawn[4] = {~0u, ~0u, ~0u, ~0u};
        if (threshold) philox(seed, index, place, drawn);
        for (int i = 0; i < 4; ++i) factor[i] = drawn[i] < threshold ? 0.0f : scale;
    }
};

// Sums of N numbers a thread over the block. `turn` alternates, so that one barrier a call is enough.
template <int N> __device__ void sum_over_block(float (&values)[N], int& turn) {
    __shared__ float parts[2][N][THREADS / 32];
    for (int lanes = 16; lanes; lanes /= 2)
        for (int n = 0; n < N; ++n) values[n] += __shfl_xor_sync(~0u, values[n], lanes);
    if (THREADS == 32) return;
    for (int n = 0; n < N; ++n)
        if (threadIdx.x % 32 == 0) parts[turn][n][threadIdx.x / 32] = values[n];
    __syncthreads();
    for (int n = 0; n < N; ++n) {
        values[n] = 0;
        for (int warp = 0; warp < THREADS / 32; ++warp) values[n] += parts[turn][n][warp];
    }
    turn ^= 1;
}

// x + gate * dropout(branch), and its layer norm * factor + shift. Without a branch, or without y, that part alone.
extern "C" __global__ void __launch_bounds__(THREADS) gated_norm_forward(
    const float* x, const In* branch, const float* gate, const float* factor, const float* shift,
    const long long* sequence, int tokens, const u64* seed, u32 place, u32 threshold, float scale, float epsilon,
    float* x_out, Out* y, float* mean_out, float* rstd_out
) {
    const Dropout dropout{threshold ? *seed : 0, place, threshold, scale};
    const int column = 4 * threadIdx.x, first = blockIdx.x * ROWS, end = min(first + ROWS, tokens);
    const bool inside = column < HIDDEN;
    int turn = 0;
    for (int row = first; row < end; ++row) {
        const u64 at = u64(row) * HIDDEN + column, rows_at = u64(sequence[row]) * HIDDEN + column;
        float v[4] = {0, 0, 0, 0};
        if (inside) load<0>(x + at, v);
        if (branch && inside) {
            float b[4], g[4], kept[4];
            load<IN>(branch + at, b);
            load<0>(gate + rows_at, g);
            dropout.factors(at / 4, kept);
            for (int i = 0; i < 4; ++i) v[i] += g[i] * (b[i] * kept[i]);
            store<0>(x_out + at, v);
        }
        if (!y) continue;
        float sum[1] = {v[0] + v[1] + v[2] + v[3]}, squares[1] = {0};
        sum_over_block(sum, turn);
        const float mean = sum[0] / HIDDEN;
        for (int i = 0; inside && i < 4; ++i) squares[0] += (v[i] - mean) * (v[i] - mean);
        sum_over_block(squares, turn);
        const float rstd = rsqrtf(squares[0] / HIDDEN + epsilon);
        if (threadIdx.x == 0) mean_out[row] = mean, rstd_out[row] = rstd;
        if (!inside) continue;
        float f[4], s[4];
        load<0>(factor + rows_at, f);
        load<0>(shift + rows_at, s);
        for (int i = 0; i < 4; ++i) v[i] = (v[i] - mean) * rstd * f[i] + s[i];
        store<OUT>(y + at, v);
    }
}

// Gradients of the above, `rows` tokens a tile. `d_x_out` and `d_y` are null where nothing comes from there. Those of
// gate, factor and shift are sums over a sequence's tokens: each tile writes its part of one into a slot of `parts`
// [slots, 3, HIDDEN], slot tile + sequence, which no other pair of the two takes.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) gated_norm_backward(
    const float* d_x_out, const Out* d_y, const float* x_out, const float* mean_in, const float* rstd_in,
    const float* factor, const In* branch, const float* gate,
    const long long* sequence, int tokens, int rows, const u64* seed, u32 place, u32 threshold, float scale,
    float* d_x, In* d_branch, float* parts
) {
    const Dropout dropout{threshold ? *seed : 0, place, threshold, scale};
    const int column = 4 * threadIdx.x, first = blockIdx.x * rows, end = min(first + rows, tokens);
    const bool inside = column < HIDDEN;
    float sums[3][4] = {};
    long long current = sequence[first];
    int turn = 0;

    auto put_down = [&]() {
        float* slot = parts + (u64(blockIdx.x) + current) * 3 * HIDDEN + column;
        for (int which = 0; inside && which < 3; ++which) store<0>(slot + which * HIDDEN, sums[which]);
        for (int i = 0; i < 12; ++i) sums[i / 4][i % 4] = 0;
    };

    for (int row = first; row < end; ++row) {
        if (sequence[row] != current) {
            put_down();
            current = sequence[row];
        }
        const u64 at = u64(row) * HIDDEN + column, rows_at = u64(current) * HIDDEN + column;
        // All that comes from memory is asked for before the block waits for its sums.
        float d[4] = {}, g[4] = {}, normed[4] = {}, f[4] = {}, b[4] = {}, rstd = 0, both[2] = {};
        if (inside && d_x_out) load<0>(d_x_out + at, d);
        if (inside && branch) load<IN>(branch + at, b);
        if (inside && d_y) {
            load<OUT>(d_y + at, g);
            load<0>(x_out + at, normed);
            load<0>(factor + rows_at, f);
            const float mean = mean_in[row];
            rstd = rstd_in[row];
            for (int i = 0; i < 4; ++i) {
                normed[i] = (normed[i] - mean) * rstd;
                sums[1][i] += g[i] * normed[i];
                sums[2][i] += g[i];
                g[i] *= f[i];
                both[0] += g[i];
                both[1] += g[i] * normed[i];
            }
        }
        if (d_y) sum_over_block(both, turn);
        if (!inside) continue;
        for (int i = 0; i < 4; ++i) d[i] += rstd * (g[i] - both[0] / HIDDEN - normed[i] * (both[1] / HIDDEN));
        store<0>(d_x + at, d);
        if (!branch) continue;
        float gates[4], kept[4];
        load<0>(gate + rows_at, gates);
        dropout.factors(at / 4, kept);
        for (int i = 0; i < 4; ++i) {
            sums[0][i] += d[i] * (b[i] * kept[i]);
            b[i] = d[i] * gates[i] * kept[i];
        }
        store<IN>(d_branch + at, b);
    }
    put_down();
}

// The slots of each sequence, summed: [sequences, 3, HIDDEN]. One block a sequence and 128 columns.
extern "C" __global__ void sum_slots(const float* parts, const int* cu_seqlens, int rows, float* sums) {
    const u32 column = blockIdx.y * blockDim.x + threadIdx.x;
    const int sequence = blockIdx.x, start = cu_seqlens[sequence], end = cu_seqlens[sequence + 1];
    if (column >= 3 * HIDDEN) return;
    float sum = 0;
    if (start < end)
        for (int slot = start / rows + sequence; slot <= (end - 1) / rows + sequence; ++slot)
            sum += parts[u64(slot) * 3 * HIDDEN + column];
    sums[u64(sequence) * 3 * HIDDEN + column] = sum;
}

// Queries and keys, turned by each token's angles (rotary.py), and values as they are, side by side into qkv [tokens, 3,
// heads, 2 half]; `way` -1 turns back. A token's rows of q, k and v lie `stride` apart. In place where those are qkv's
// own: then v is null. One thread for four pairs; `half` is a multiple of 4.
extern "C" __global__ void rotate(
    const In* q, const In* k, const In* v, int stride, const float* cosine, const float* sine,
    int tokens, int heads, int half, float way, In* qkv
) {
    const u64 thread = u64(blockIdx.x) * blockDim.x + threadIdx.x;
    const int groups = half / 4, pair = 4 * int(thread % groups), parts = v ? 3 : 2;
    const int which = int(thread / groups % (parts * heads)), part = which / heads, head = which % heads;
    const u64 token = thread / groups / (parts * heads);
    if (token >= tokens) return;
    const In* from = (part == 0 ? q : part == 1 ? k : v) + token * stride + head * 2 * half + pair;
    In* to = qkv + ((token * 3 + part) * heads + head) * 2 * half + pair;
    float a[4], b[4], c[4], s[4];
    load<IN>(from, a);
    load<IN>(from + half, b);
    if (part < 2) {
        load<0>(cosine + token * half + pair, c);
        load<0>(sine + token * half + pair, s);
        for (int i = 0; i < 4; ++i) {
            const float turned = a[i] * c[i] - way * b[i] * s[i];
            b[i] = b[i] * c[i] + way * a[i] * s[i];
            a[i] = turned;
        }
    }
    store<IN>(to, a);
    store<IN>(to + half, b);
}

// Sums of the columns of x over a tile of `rows`: `parts` [tiles, width]. A block for eight columns a thread.
extern "C" __global__ void column_sums(const Out* x, int tokens, int width, int rows, float* parts) {
    const int column = 8 * (blockIdx.y * blockDim.x + threadIdx.x);
    const int first = blockIdx.x * rows, end = min(first + rows, tokens);
    if (column >= width) return;
    float sums[8] = {}, next[4][8];
    for (int row = first; row < end; row += 4) {
        for (int r = 0; r < 4; ++r)
            if (row + r < end) load<OUT>(x + u64(row + r) * width + column, next[r]);
        for (int r = 0; r < 4; ++r)
            for (int i = 0; row + r < end && i < 8; ++i) sums[i] += next[r][i];
    }
    store<0>(parts + u64(blockIdx.x) * width + column, sums);
}

// GELU in its tanh form, of the MLP's inner width: x sigmoid(2 u) is 0.5 x (1 + tanh(u)), in one exponential.

__device__ float gelu_sigmoid(float x) {
    return __fdividef(1.0f, 1.0f + __expf(x * (-1.5957691216f - 0.0713548163f * x * x)));
}

// Eight numbers a thread; `count` is a multiple of eight.
extern "C" __global__ void gelu_forward(const Out* inner, u64 count, Out* y) {
    const u64 at = 8 * (u64(blockIdx.x) * blockDim.x + threadIdx.x);
    if (at >= count) return;
    float x[8];
    load<OUT>(inner + at, x);
    for (int i = 0; i < 8; ++i) x[i] *= gelu_sigmoid(x[i]);
    store<OUT>(y + at, x);
}

// Its gradient, and the columns' sums of that over a tile of `rows`, which make the gradient of the bias: `parts` [tiles,
// width]. A block for eight columns a thread.
extern "C" __global__ void __launch_bounds__(128, 8) gelu_backward(
    const Out* d_y, const Out* inner, int tokens, int width, int rows, Out* d_inner, float* parts
) {
    const int column = 8 * (blockIdx.y * blockDim.x + threadIdx.x);
    const int first = blockIdx.x * rows, end = min(first + rows, tokens);
    if (column >= width) return;
    float sums[8] = {};
    for (int row = first; row < end; row += 2) {
        Vector<Out, 8> d_bits[2], x_bits[2];  // kept as they are: they take a register for two numbers
        for (int r = 0; r < 2; ++r) {
            const u64 at = u64(min(row + r, end - 1)) * width + column;
            d_bits[r] = *reinterpret_cast<const Vector<Out, 8>*>(d_y + at);
            x_bits[r] = *reinterpret_cast<const Vector<Out, 8>*>(inner + at);
        }
        for (int r = 0; r < 2; ++r) {
            if (row + r >= end) continue;
            float d[8];
            for (int i = 0; i < 8; ++i) {
                const float x = widen<OUT>(x_bits[r].at[i]), s = gelu_sigmoid(x);
                d[i] = widen<OUT>(d_bits[r].at[i]) * (s + x * s * (1.0f - s) * (1.5957691216f + 0.2140644488f * x * x));
                sums[i] += d[i];
            }
            store<OUT>(d_inner + u64(row + r) * width + column, d);
        }
    }
    store<0>(parts + u64(blockIdx.x) * width + column, sums);
}
