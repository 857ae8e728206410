// Gate, dropout, residual sum, norm, scale and shift, in one pass over memory. See gated_norm.py.
//
// Given by the compiler's options: HIDDEN, the width of a row; THREADS, a multiple of 32 that covers HIDDEN / 4;
// BLOCKS, how many a multiprocessor shall hold at once; ROWS, tokens of a tile; SHIFTED, see the token shift.
//
// A block of threads goes through the rows of one tile, four columns a thread.

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

// Token shift: of a row of y, the first SHIFTED columns are the norm of the token before in the same sequence, the next
// SHIFTED that of the token after, and so on for the `reach` nearest tokens on either side; 0 where there is none.
// SHIFTED is a multiple of 4.

// How many rows further a token's norm goes in these columns.
__device__ int shift_of(int column, int reach) {
    const int neighbour = column / SHIFTED, distance = neighbour / 2 + 1;
    return distance > reach ? 0 : neighbour % 2 ? -distance : distance;
}

__device__ bool is_in_sequence(const long long* sequence, int tokens, int row, int other) {
    return other >= 0 && other < tokens && sequence[other] == sequence[row];
}

// x + gate * dropout(branch), and its layer norm * factor + shift. Without a branch, or without y, that part alone.
extern "C" __global__ void __launch_bounds__(THREADS) gated_norm_forward(
    const float* x, const In* branch, const float* gate, const float* factor, const float* shift,
    const long long* sequence, int tokens, const u64* seed, u32 place, u32 threshold, float scale, float epsilon,
    int reach, float* x_out, Out* y, float* mean_out, float* rstd_out
) {
    const Dropout dropout{threshold ? *seed : 0, place, threshold, scale};
    const int column = 4 * threadIdx.x, first = blockIdx.x * ROWS, end = min(first + ROWS, tokens);
    const int by = shift_of(column, reach);
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
        const float mean = sum[0] * (1.0f / HIDDEN);
        for (int i = 0; inside && i < 4; ++i) squares[0] += (v[i] - mean) * (v[i] - mean);
        sum_over_block(squares, turn);
        const float rstd = rsqrtf(squares[0] * (1.0f / HIDDEN) + epsilon);
        if (threadIdx.x == 0) mean_out[row] = mean, rstd_out[row] = rstd;
        if (!inside) continue;
        float f[4], s[4];
        load<0>(factor + rows_at, f);
        load<0>(shift + rows_at, s);
        for (int i = 0; i < 4; ++i) v[i] = (v[i] - mean) * rstd * f[i] + s[i];
        if (is_in_sequence(sequence, tokens, row, row + by)) store<OUT>(y + at + by * HIDDEN, v);
        if (by && !is_in_sequence(sequence, tokens, row, row - by)) {
            for (int i = 0; i < 4; ++i) v[i] = 0;
            store<OUT>(y + at, v);
        }
    }
}

// Gradients of the above, `rows` tokens a tile. `d_x_out` and `d_y` are null where nothing comes from there. Those of
// gate, factor and shift are sums over a sequence's tokens: each tile writes its part of one into a slot of `parts`
// [slots, 3, HIDDEN], slot tile + sequence, which no other pair of the two takes.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) gated_norm_backward(
    const float* d_x_out, const Out* d_y, const float* x_out, const float* mean_in, const float* rstd_in,
    const float* factor, const In* branch, const float* gate,
    const long long* sequence, int tokens, int rows, const u64* seed, u32 place, u32 threshold, float scale,
    int reach, float* d_x, In* d_branch, float* parts
) {
    const Dropout dropout{threshold ? *seed : 0, place, threshold, scale};
    const int column = 4 * threadIdx.x, first = blockIdx.x * rows, end = min(first + rows, tokens);
    const int by = shift_of(column, reach);
    const bool inside = column < HIDDEN;
    float sums[3][4] = {}, f[4] = {}, gates[4] = {};
    long long current = sequence[first];
    int turn = 0;

    auto put_down = [&]() {
        float* slot = parts + (u64(blockIdx.x) + current) * 3 * HIDDEN + column;
        for (int which = 0; inside && which < 3; ++which) store<0>(slot + which * HIDDEN, sums[which]);
        for (int i = 0; i < 12; ++i) sums[i / 4][i % 4] = 0;
    };
    auto begin = [&](long long next) {
        current = next;
        const u64 rows_at = u64(current) * HIDDEN + column;
        if (inside && d_y) load<0>(factor + rows_at, f);
        if (inside && branch) load<0>(gate + rows_at, gates);
    };

    begin(current);
    for (int row = first; row < end; ++row) {
        if (sequence[row] != current) {
            put_down();
            begin(sequence[row]);
        }
        const u64 at = u64(row) * HIDDEN + column;
        // All that comes from memory is asked for before the block waits for its sums, and kept as it lies there: fewer
        // registers a thread, and more threads, which matters most here.
        Vector<float, 4> d = {}, x = {};
        Vector<Out, 4> d_y_bits = {};
        Vector<In, 4> branch_bits = {};
        float rstd = 0, both[2] = {};
        if (inside && d_x_out) d = *reinterpret_cast<const Vector<float, 4>*>(d_x_out + at);
        if (inside && branch) branch_bits = *reinterpret_cast<const Vector<In, 4>*>(branch + at);
        if (inside && d_y) {
            if (is_in_sequence(sequence, tokens, row, row + by))
                d_y_bits = *reinterpret_cast<const Vector<Out, 4>*>(d_y + at + by * HIDDEN);
            x = *reinterpret_cast<const Vector<float, 4>*>(x_out + at);
            const float mean = mean_in[row];
            rstd = rstd_in[row];
            for (int i = 0; i < 4; ++i) {
                const float g = widen<OUT>(d_y_bits.at[i]);
                x.at[i] = (x.at[i] - mean) * rstd;  // the norm
                sums[1][i] += g * x.at[i];
                sums[2][i] += g;
                both[0] += g * f[i];
                both[1] += g * f[i] * x.at[i];
            }
        }
        if (d_y) sum_over_block(both, turn);
        if (!inside) continue;
        for (int i = 0; i < 4; ++i) {
            const float g = widen<OUT>(d_y_bits.at[i]) * f[i];
            d.at[i] += rstd * (g - both[0] * (1.0f / HIDDEN) - x.at[i] * (both[1] * (1.0f / HIDDEN)));
        }
        *reinterpret_cast<Vector<float, 4>*>(d_x + at) = d;
        if (!branch) continue;
        float kept[4];
        dropout.factors(at / 4, kept);
        for (int i = 0; i < 4; ++i) {
            sums[0][i] += d.at[i] * (widen<IN>(branch_bits.at[i]) * kept[i]);
            kept[i] *= d.at[i] * gates[i];
        }
        store<IN>(d_branch + at, kept);
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
