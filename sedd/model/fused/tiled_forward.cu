// Attention within packed sequences, by tiles of 64 queries and 64 keys in shared memory; see tiled_attention.py.
//
// q, k, v: [tokens, heads, HEAD_DIM] in half precision, tokens `stride` apart; sequences lie between `borders`. A block of
// four warps takes a tile of queries of one head, each warp 16 of them, and goes through the keys: softmax with the largest
// score so far (Dao et al. 2022, arXiv 2205.14135). `scale` is log2(e) / sqrt(HEAD_DIM).

constexpr int D = HEAD_DIM, PARTS = D / 16, TILE = 64, PIECES = TILE / 16, CREW = 32 * PIECES;
constexpr int STRIDE = D + 8, WIDE = TILE + 8;  // of rows in shared memory: eight more, so that they begin in other banks

struct alignas(32) Rows { Half at[TILE * STRIDE]; };
struct alignas(32) Weights { Half at[TILE * WIDE]; };
typedef Vector<u32, 4> Eight;  // numbers in half precision

constexpr int ATTEND_BLOCKS = D > 64 ? 2 : 3;  // that a multiprocessor holds at once

// A tile's rows on their way from device memory to shared memory, by a block of THREADS; zero from `rows` on.
template <int THREADS> struct FetchedBy {
    static constexpr int FETCHES = TILE * D / 8 / THREADS;
    Eight at[FETCHES];
    __device__ void fetch(const Half* from, int stride, int rows) {
        for (int i = 0; i < FETCHES; ++i) {
            const int which = threadIdx.x + i * THREADS, row = which / (D / 8), column = which % (D / 8) * 8;
            if (row < rows) at[i] = *reinterpret_cast<const Eight*>(from + u64(row) * stride + column);
            else at[i] = Eight{};
        }
    }
    __device__ void put(Rows& to) const {
        for (int i = 0; i < FETCHES; ++i) {
            const int which = threadIdx.x + i * THREADS, row = which / (D / 8), column = which % (D / 8) * 8;
            *reinterpret_cast<Eight*>(to.at + row * STRIDE + column) = at[i];
        }
    }
};
typedef FetchedBy<CREW> Fetched;

__device__ void clear(Sums& sums) {
    for (int i = 0; i < 8; ++i) sums.at[i] = 0;
}

__device__ void store_pair(Half* to, float first, float second) {
    *reinterpret_cast<u32*>(to) = half_pair(first, second);
}

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
