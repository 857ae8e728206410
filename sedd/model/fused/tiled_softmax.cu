// Scores of a tile of keys and their softmax with the largest score so far (Dao et al. 2022, arXiv 2205.14135).
//
// `scale` is log2(e) / sqrt(HEAD_DIM), since a card's exponentials are powers of 2.

struct Softmax { float most[2], sum[2]; };

// Scores of a warp's 16 queries for one tile of keys; `count` of these exist, all if WHOLE.
template <bool WHOLE> __device__ void find_scores(
    const Left<false> (&query)[PARTS], const Rows& keys, int count, Sums (&score)[PIECES]
) {
#pragma unroll
    for (int j = 0; j < PIECES; ++j) {
        if (!WHOLE && 16 * j >= count) continue;
        clear(score[j]);
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            Right<true> key;
            load_matrix(key, keys.at + 16 * j * STRIDE + 16 * part, STRIDE);
            multiply(score[j], query[part], key);
        }
    }
}

// Their exponentials, the weights; `shrink`: what becomes of all that was added up before.
template <bool WHOLE> __device__ void find_weights(
    Sums (&score)[PIECES], Half* weights, int count, float scale, const Place& place, Softmax& softmax, float (&shrink)[2]
) {
    float most[2] = {softmax.most[0], softmax.most[1]};
#pragma unroll
    for (int j = 0; j < PIECES; ++j)
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            if (!WHOLE && 16 * j >= count) continue;
            if (!WHOLE && 16 * j + place.column_of(i) >= count) score[j].at[i] = -1e30f;
            most[Place::half_of(i)] = fmaxf(most[Place::half_of(i)], score[j].at[i]);
        }
    float shift[2];
    for (int r = 0; r < 2; ++r) {
        for (int m = 0; m < 2; ++m) most[r] = fmaxf(most[r], __shfl_xor_sync(~0u, most[r], place.mates[m]));
        shrink[r] = power_of_2((softmax.most[r] - most[r]) * scale);
        softmax.most[r] = most[r];
        softmax.sum[r] *= shrink[r];
        shift[r] = most[r] * scale;
    }
#pragma unroll
    for (int j = 0; j < PIECES; ++j)
#pragma unroll
        for (int i = 0; i < 8; i += 2) {
            if (!WHOLE && 16 * j >= count) continue;
            const int r = Place::half_of(i);
            const float first = power_of_2(score[j].at[i] * scale - shift[r]);
            const float second = power_of_2(score[j].at[i + 1] * scale - shift[r]);
            softmax.sum[r] += first + second;
            store_pair(weights + place.row[r] * WIDE + 16 * j + place.column_of(i), first, second);
        }
}
