// Attention within packed sequences of heads of 32 and 64: a block of four warps takes a tile of queries, each warp 16 of
// them, and goes through the keys.

constexpr int ATTEND_BLOCKS = 3;  // that a multiprocessor holds at once

// One tile of keys for a warp's 16 queries.
template <bool WHOLE> __device__ void attend_tile(
    const Left<false> (&query)[PARTS], const Rows& keys, const Rows& values, Half* weights, int count, float scale,
    const Place& place, Softmax& softmax, Sums (&output)[PARTS]
) {
    Sums score[PIECES];
    float shrink[2];
    find_scores<WHOLE>(query, keys, count, score);
    find_weights<WHOLE>(score, weights, count, scale, place, softmax, shrink);
#pragma unroll
    for (int part = 0; part < PARTS; ++part)
#pragma unroll
        for (int i = 0; i < 8; ++i) output[part].at[i] *= shrink[Place::half_of(i)];
    __syncwarp();
#pragma unroll
    for (int j = 0; j < PIECES; ++j) {
        if (!WHOLE && 16 * j >= count) continue;
        Left<false> weight;
        load_matrix(weight, weights + 16 * j, WIDE);
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            Right<false> value;
            load_matrix(value, values.at + 16 * j * STRIDE + 16 * part, STRIDE);
            multiply(output[part], weight, value);
        }
    }
}

// A block for each of `tiles` of each sequence and head. logsumexp [heads, tokens], to base 2, of the scaled scores.
extern "C" __global__ void __launch_bounds__(CREW, ATTEND_BLOCKS) attend(
    const Half* q, const Half* k, const Half* v, int stride, const int* borders, int tokens, int heads, int tiles,
    float scale, Half* output, float* logsumexp
) {
    __shared__ Rows keys, values;
    __shared__ Weights weights;
    const int head = blockIdx.x % heads, first = blockIdx.x / heads % tiles * TILE, sequence = blockIdx.x / heads / tiles;
    const int begin = borders[sequence], length = borders[sequence + 1] - begin, warp = threadIdx.x / 32;
    if (first >= length) return;
    const Place place = find_place(reinterpret_cast<float*>(weights.at));
    const u64 start = u64(begin) * stride + head * D;
    Fetched a, b;
    a.fetch(q + start + u64(first) * stride, stride, length - first);
    a.put(keys);
    __syncthreads();
    Left<false> query[PARTS];
    for (int part = 0; part < PARTS; ++part) load_matrix(query[part], keys.at + 16 * warp * STRIDE + 16 * part, STRIDE);
    Sums sums[PARTS];
    for (int part = 0; part < PARTS; ++part) clear(sums[part]);
    Softmax softmax = {{-1e30f, -1e30f}, {0, 0}};
    Half* const own = weights.at + 16 * warp * WIDE;
    for (int key = 0; key < length; key += TILE) {
        a.fetch(k + start + u64(key) * stride, stride, length - key);
        b.fetch(v + start + u64(key) * stride, stride, length - key);
        __syncthreads();
        a.put(keys);
        b.put(values);
        __syncthreads();
        if (first + 16 * warp >= length) continue;
        if (length - key >= TILE)
            attend_tile<true>(query, keys, values, own, TILE, scale, place, softmax, sums);
        else
            attend_tile<false>(query, keys, values, own, length - key, scale, place, softmax, sums);
    }
    for (int r = 0; r < 2; ++r) {
        for (int m = 0; m < 2; ++m) softmax.sum[r] += __shfl_xor_sync(~0u, softmax.sum[r], place.mates[m]);
        const int row = first + 16 * warp + place.row[r];
        if (row >= length) continue;
        const float share = 1 / softmax.sum[r];
        Half* const to = output + (u64(begin + row) * heads + head) * D;
        for (int part = 0; part < PARTS; ++part)
            for (int i = 2 * r; i < 8; i += 4)
                store_pair(to + 16 * part + place.column_of(i), sums[part].at[i] * share, sums[part].at[i + 1] * share);
        if (place.column[0] == 0)
            logsumexp[u64(head) * tokens + begin + row] = softmax.most[r] * scale + log_of_base_2(softmax.sum[r]);
    }
}
