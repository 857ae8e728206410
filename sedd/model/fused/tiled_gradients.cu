// What the gradients of attention share for heads of all sizes, after tiles.cu.
//
// With logsumexp and delta = sum(d_output output) of each query, weights p = 2^(score - logsumexp) and the gradients of
// the scores, p (d_p - delta), follow entry by entry.

// Gradients [16, D] of rows from a token on, of which `rows` exist: times a factor, turned back by the token's angles if
// there are any (rotary.py), and rounded. Where N is less than PARTS, as many columns of each half of a head.
template <int N> __device__ void write_gradient(
    Sums (&x)[N], const Place& place, int rows, int token, float factor, const float* cosine, const float* sine,
    Half* to, int stride
) {
    for (int r = 0; r < 2; ++r) {
        const int row = place.row[r];
        if (row >= rows) continue;
        for (int i = 2 * r; i < 8; i += 4) {
            const int column = place.column_of(i);
#pragma unroll
            for (int part = 0; part < N / 2; ++part) {
                Sums &low = x[part], &high = x[part + N / 2];
                float a[2] = {low.at[i] * factor, low.at[i + 1] * factor};
                float b[2] = {high.at[i] * factor, high.at[i + 1] * factor};
                if (cosine) {
                    float c[2], s[2];
                    const u64 angle = u64(token + row) * (D / 2) + 16 * part + column;
                    load<0>(cosine + angle, c);
                    load<0>(sine + angle, s);
                    for (int n = 0; n < 2; ++n) {
                        const float turned = a[n] * c[n] + b[n] * s[n];
                        b[n] = b[n] * c[n] - a[n] * s[n];
                        a[n] = turned;
                    }
                }
                Half* const there = to + u64(token + row) * stride + 16 * part + column;
                store_pair(there, a[0], a[1]);
                store_pair(there + D / 2, b[0], b[1]);
            }
        }
    }
}

// sum(d_output output) of a tile's queries, of which there are `rows`; if KEEP, also for the block itself, in `kept`.
template <bool KEEP> __device__ void find_deltas(
    const Half* output, const Half* d_output, int stride, int rows, float* kept, float* delta
) {
    constexpr int LANES = D / 8;
    const int lane = threadIdx.x % LANES;
#pragma unroll
    for (int first = 0; first < TILE; first += CREW / LANES) {
        const int row = first + threadIdx.x / LANES;
        float a[8], b[8], sum = 0;
        if (row < rows) {
            load<1>(output + u64(row) * stride + 8 * lane, a);
            load<1>(d_output + u64(row) * stride + 8 * lane, b);
            for (int i = 0; i < 8; ++i) sum += a[i] * b[i];
        }
        for (int mask = 1; mask < LANES; mask *= 2) sum += __shfl_xor_sync(~0u, sum, mask);
        if (KEEP && lane == 0) kept[row] = sum;
        if (lane == 0 && row < rows) delta[row] = sum;
    }
}
