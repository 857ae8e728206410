// What a block's modulation [sequences, 6 HIDDEN] means to its two norms and gates. See modulation_rows.py.

// Shift, factor and gate of both halves of a block, each [sequences, HIDDEN] in `rows`: a factor is weight (1 + scale), with
// the weight of the half's layer norm. One thread for four columns, a block a part of a sequence's row.
extern "C" __global__ void modulation_rows(
    const Out* modulation, const float* weight_1, const float* weight_2, int sequences, float* rows
) {
    const int column = 4 * (blockIdx.y * blockDim.x + threadIdx.x), part = column / HIDDEN;
    if (column >= 6 * HIDDEN) return;
    float x[4], w[4];
    load<OUT>(modulation + u64(blockIdx.x) * 6 * HIDDEN + column, x);
    if (part % 3 == 1) {
        load<0>((part == 1 ? weight_1 : weight_2) + column % HIDDEN, w);
        for (int i = 0; i < 4; ++i) x[i] = w[i] * (1 + x[i]);
    }
    store<0>(rows + (u64(part) * sequences + blockIdx.x) * HIDDEN + column % HIDDEN, x);
}

struct RowGradients {
    const float* of[6];
    int stride[6];
};

// Its gradients, from those of the six: of the modulation, and of both weights [2, HIDDEN], sums over the sequences. A block
// of eight warps for 128 columns of one of the six; each warp takes every eighth sequence.
extern "C" __global__ void __launch_bounds__(256) modulation_rows_backward(
    RowGradients d_rows, const Out* modulation, const float* weight_1, const float* weight_2, int sequences,
    Out* d_modulation, float* d_weights
) {
    constexpr int WARPS = 8;
    __shared__ float sums[WARPS][128];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, part = blockIdx.x;
    const int column = 128 * blockIdx.y + 4 * lane;
    const bool inside = column < HIDDEN, is_factor = part % 3 == 1;
    float w[4] = {1, 1, 1, 1}, sum[4] = {};
    if (inside && is_factor) load<0>((part == 1 ? weight_1 : weight_2) + column, w);
    for (int sequence = warp; inside && sequence < sequences; sequence += WARPS) {
        const u64 at = u64(sequence) * 6 * HIDDEN + part * HIDDEN + column;
        float d[4], scale[4];
        load<0>(d_rows.of[part] + u64(sequence) * d_rows.stride[part] + column, d);
        if (is_factor) {
            load<OUT>(modulation + at, scale);
            for (int i = 0; i < 4; ++i) {
                sum[i] += d[i] * (1 + scale[i]);
                d[i] *= w[i];
            }
        }
        store<OUT>(d_modulation + at, d);
    }
    if (!is_factor) return;
    store<0>(&sums[warp][4 * lane], sum);
    __syncthreads();
    if (warp > 0 || !inside) return;
    for (int other = 1; other < WARPS; ++other)
        for (int i = 0; i < 4; ++i) sum[i] += sums[other][4 * lane + i];
    store<0>(d_weights + (part / 3) * HIDDEN + column, sum);
}
