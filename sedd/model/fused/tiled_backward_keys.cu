// Gradients of keys and values, tile by tile of keys: the second half of tiled_backward.cu, after which it is compiled.

struct Tiles {
    Rows queries, gradients;
    Weights weights, d_scores;
    alignas(8) float of_rows[TILE][2];  // logsumexp and delta
};

// Gradients of a warp's 16 keys and values, from `own` on, by a tile of queries, of which there are `count`; all if WHOLE.
// What comes of keys beyond a sequence's end stays in their own rows, which nobody writes.
template <bool WHOLE> __device__ void go_through_queries(
    Tiles& tiles, int own, int count, float scale, const Place& place,
    const Right<true> (&key)[PARTS], const Right<true> (&value)[PARTS], Sums (&d_key)[PARTS], Sums (&d_value)[PARTS]
) {
#pragma unroll
    for (int i = 0; i < PIECES; ++i) {
        if (!WHOLE && 16 * i >= count) continue;
        Sums score, d_weight;
        clear(score);
        clear(d_weight);
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            Left<false> query, gradient;
            load_matrix(query, tiles.queries.at + 16 * i * STRIDE + 16 * part, STRIDE);
            multiply(score, query, key[part]);
            load_matrix(gradient, tiles.gradients.at + 16 * i * STRIDE + 16 * part, STRIDE);
            multiply(d_weight, gradient, value[part]);
        }
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = 16 * i + place.row[r];
            float of_row[2];
            load<0>(tiles.of_rows[row], of_row);
#pragma unroll
            for (int e = 2 * r; e < 8; e += 4) {
                float weight[2], d_score[2];
#pragma unroll
                for (int n = 0; n < 2; ++n) {
                    weight[n] = power_of_2(score.at[e + n] * scale - of_row[0]);
                    d_score[n] = weight[n] * (d_weight.at[e + n] - of_row[1]);
                }
                const int there = row * WIDE + own + place.column_of(e);
                store_pair(tiles.weights.at + there, weight[0], weight[1]);
                store_pair(tiles.d_scores.at + there, d_score[0], d_score[1]);
            }
        }
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < PIECES; ++i) {
        if (!WHOLE && 16 * i >= count) continue;
        Left<true> weight, d_score;
        load_matrix(weight, tiles.weights.at + 16 * i * WIDE + own, WIDE);
        load_matrix(d_score, tiles.d_scores.at + 16 * i * WIDE + own, WIDE);
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            Right<false> gradient, query;
            load_matrix(gradient, tiles.gradients.at + 16 * i * STRIDE + 16 * part, STRIDE);
            multiply(d_value[part], weight, gradient);
            load_matrix(query, tiles.queries.at + 16 * i * STRIDE + 16 * part, STRIDE);
            multiply(d_key[part], d_score, query);
        }
    }
}

// As above, with the deltas that attend_backward_q found.
extern "C" __global__ void __launch_bounds__(CREW, K_BLOCKS) attend_backward_kv(
    const Half* q, const Half* k, const Half* v, int stride, const Half* d_output, const float* logsumexp,
    const int* borders, int tokens, int heads, int tiles, float logarithmic, float scale, const float* cosine,
    const float* sine, const float* deltas, Half* d_k, Half* d_v, int d_stride
) {
    __shared__ Tiles shared;
    const int head = blockIdx.x % heads, first = blockIdx.x / heads % tiles * TILE, sequence = blockIdx.x / heads / tiles;
    const int begin = borders[sequence], length = borders[sequence + 1] - begin, own = threadIdx.x / 32 * 16;
    if (first >= length) return;
    const int keys = min(TILE, length - first), out = heads * D;
    const Place place = find_place(reinterpret_cast<float*>(shared.weights.at));
    const u64 start = u64(begin) * stride + head * D, out_start = u64(begin) * out + head * D;
    const u64 row_start = u64(head) * tokens + begin;
    Fetched a, b;
    a.fetch(k + start + u64(first) * stride, stride, keys);
    b.fetch(v + start + u64(first) * stride, stride, keys);
    a.put(shared.queries);
    b.put(shared.gradients);
    __syncthreads();
    Right<true> key[PARTS], value[PARTS];
    Sums d_key[PARTS], d_value[PARTS];
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
        load_matrix(key[part], shared.queries.at + own * STRIDE + 16 * part, STRIDE);
        load_matrix(value[part], shared.gradients.at + own * STRIDE + 16 * part, STRIDE);
        clear(d_key[part]);
        clear(d_value[part]);
    }
    for (int query = 0; query < length; query += TILE) {
        const int count = length - query, row = query + threadIdx.x;
        a.fetch(q + start + u64(query) * stride, stride, count);
        b.fetch(d_output + out_start + u64(query) * out, out, count);
        const bool is_one = threadIdx.x < TILE && row < length;
        const float of_row[2] = {is_one ? logsumexp[row_start + row] : 1e30f, is_one ? deltas[row_start + row] : 0};
        __syncthreads();
        a.put(shared.queries);
        b.put(shared.gradients);
        if (threadIdx.x < TILE) store<0>(shared.of_rows[threadIdx.x], of_row);
        __syncthreads();
        if (own >= keys) continue;
        if (count >= TILE)
            go_through_queries<true>(shared, own, TILE, logarithmic, place, key, value, d_key, d_value);
        else
            go_through_queries<false>(shared, own, count, logarithmic, place, key, value, d_key, d_value);
    }
    const int rows = keys - own, token = begin + first + own;
    write_gradient(d_key, place, rows, token, scale, cosine, sine, d_k + head * D, d_stride);
    write_gradient(d_value, place, rows, token, 1, nullptr, nullptr, d_v + head * D, d_stride);
}
