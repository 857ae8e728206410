// Gradients of queries, of heads of 32 and 64: a block goes through a sequence's keys for each tile of queries, and
// tiled_backward_keys.cu through its queries for each tile of keys. Both compute the weights, and nothing is added up
// between blocks.

// Blocks that a multiprocessor holds at once: a V100 has less shared memory, and takes more registers for a matrix.
#if __CUDA_ARCH__ < 750
constexpr int Q_BLOCKS = 3, K_BLOCKS = 2;
#else
constexpr int Q_BLOCKS = 4, K_BLOCKS = 3;
#endif

// Gradient of a warp's 16 queries by a tile of keys, of which there are `count`; all if WHOLE.
template <bool WHOLE> __device__ void go_through_keys(
    const Rows& keys, const Rows& values, Half* d_scores, int count, float scale, const Place& place,
    const Left<false> (&query)[PARTS], const Left<false> (&gradient)[PARTS], const float (&shift)[2],
    const float (&delta)[2], Sums (&d_query)[PARTS]
) {
#pragma unroll
    for (int j = 0; j < PIECES; ++j) {
        if (!WHOLE && 16 * j >= count) continue;
        Sums score, d_weight;
        clear(score);
        clear(d_weight);
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            Right<true> key, value;
            load_matrix(key, keys.at + 16 * j * STRIDE + 16 * part, STRIDE);
            multiply(score, query[part], key);
            load_matrix(value, values.at + 16 * j * STRIDE + 16 * part, STRIDE);
            multiply(d_weight, gradient[part], value);
        }
#pragma unroll
        for (int e = 0; e < 8; e += 2) {
            const int r = Place::half_of(e), column = 16 * j + place.column_of(e);
            float d_score[2];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float weight = power_of_2(score.at[e + i] * scale - shift[r]);
                d_score[i] = WHOLE || column + i < count ? weight * (d_weight.at[e + i] - delta[r]) : 0;
            }
            store_pair(d_scores + place.row[r] * WIDE + column, d_score[0], d_score[1]);
        }
    }
    __syncwarp();
#pragma unroll
    for (int j = 0; j < PIECES; ++j) {
        if (!WHOLE && 16 * j >= count) continue;
        Left<false> d_score;
        load_matrix(d_score, d_scores + 16 * j, WIDE);
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            Right<false> key;
            load_matrix(key, keys.at + 16 * j * STRIDE + 16 * part, STRIDE);
            multiply(d_query[part], d_score, key);
        }
    }
}

// A block for each of `tiles` of each sequence and head. d_q: tokens `d_stride` apart. delta [heads, tokens].
// `logarithmic` is `scale` log2(e), and `scale` 1 / sqrt(HEAD_DIM).
extern "C" __global__ void __launch_bounds__(CREW, Q_BLOCKS) attend_backward_q(
    const Half* q, const Half* k, const Half* v, int stride, const Half* output, const Half* d_output,
    const float* logsumexp, const int* borders, int tokens, int heads, int tiles, float logarithmic, float scale,
    const float* cosine, const float* sine, float* deltas, Half* d_q, int d_stride
) {
    __shared__ Rows keys, values;
    __shared__ Weights d_scores;
    __shared__ float tile_delta[TILE];
    const int head = blockIdx.x % heads, first = blockIdx.x / heads % tiles * TILE, sequence = blockIdx.x / heads / tiles;
    const int begin = borders[sequence], length = borders[sequence + 1] - begin, own = threadIdx.x / 32 * 16;
    if (first >= length) return;
    const int queries = min(TILE, length - first), out = heads * D;
    const Place place = find_place(reinterpret_cast<float*>(d_scores.at));
    const u64 start = u64(begin) * stride + head * D, out_start = u64(begin + first) * out + head * D;
    const u64 row_start = u64(head) * tokens + begin + first;
    Fetched a, b;
    a.fetch(q + start + u64(first) * stride, stride, queries);
    b.fetch(d_output + out_start, out, queries);
    find_deltas<true>(output + out_start, d_output + out_start, out, queries, tile_delta, deltas + row_start);
    a.put(keys);
    b.put(values);
    __syncthreads();
    Left<false> query[PARTS], gradient[PARTS];
    Sums d_query[PARTS];
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
        load_matrix(query[part], keys.at + own * STRIDE + 16 * part, STRIDE);
        load_matrix(gradient[part], values.at + own * STRIDE + 16 * part, STRIDE);
        clear(d_query[part]);
    }
    float shift[2], delta[2];
    for (int r = 0; r < 2; ++r) {
        const int row = own + place.row[r];
        shift[r] = row < queries ? logsumexp[row_start + row] : 1e30f;
        delta[r] = tile_delta[row];
    }
    Half* const rows = d_scores.at + own * WIDE;
    for (int key = 0; key < length; key += TILE) {
        const int count = length - key;
        a.fetch(k + start + u64(key) * stride, stride, count);
        b.fetch(v + start + u64(key) * stride, stride, count);
        __syncthreads();
        a.put(keys);
        b.put(values);
        __syncthreads();
        if (own >= queries) continue;
        if (count >= TILE)
            go_through_keys<true>(keys, values, rows, TILE, logarithmic, place, query, gradient, shift, delta, d_query);
        else
            go_through_keys<false>(keys, values, rows, count, logarithmic, place, query, gradient, shift, delta, d_query);
    }
    write_gradient(d_query, place, queries - own, begin + first + own, scale, cosine, sine, d_q + head * D, d_stride);
}
