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

// The sum over the tiles: [width]. A block of eight warps for 32 columns; each warp takes every eighth tile.
extern "C" __global__ void __launch_bounds__(256) sum_tiles(const float* parts, int tiles, int width, float* sums) {
    __shared__ float of_warps[8][32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, column = 32 * blockIdx.x + lane;
    float some[4] = {};  // four sums, so that as many numbers are on their way
    for (int tile = warp; tile < tiles; tile += 32)
        for (int i = 0; i < 4; ++i)
            if (column < width && tile + 8 * i < tiles) some[i] += parts[u64(tile + 8 * i) * width + column];
    of_warps[warp][lane] = some[0] + some[1] + (some[2] + some[3]);
    __syncthreads();
    if (warp > 0 || column >= width) return;
    float sum = 0;
    for (int other = 0; other < 8; ++other) sum += of_warps[other][lane];
    sums[column] = sum;
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
