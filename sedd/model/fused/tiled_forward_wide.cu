// Attention of heads of 128: tiles of 128 queries, eight warps. A warp finds the weights of 16 queries, then gathers values
// for half of the columns of 32, which it shares with its neighbour (tiled_wide.cu). The next tile of keys comes while one
// is gone through.

constexpr int MANY = 2 * TILE;
constexpr int AT_ONCE = 2;  // steps of gathering: with four a V100 spills 116 bytes of registers

struct Coming { Rows keys, values; };

struct ManyQueries {
    Coming coming[2];
    alignas(32) Half weights[MANY * WIDE];
    float factors[MANY];  // of what each query has gathered
};

static_assert(sizeof(ManyQueries) == FORWARD_SHARED, "what tiled_attention.py asks for");

__device__ void scale_rows(Sums (&x)[2][ACROSS], const float* factors, const Place& place) {
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const float factor = factors[16 * n + place.row[r]];
#pragma unroll
            for (int part = 0; part < ACROSS; ++part)
#pragma unroll
                for (int i = 2 * r; i < 8; i += 4)
                    for (int m = 0; m < 2; ++m) x[n][part].at[i + m] *= factor;
        }
}

// Weights of a warp's 16 queries for one tile of keys, and how far what they have gathered shrinks.
template <bool WHOLE> __device__ void weigh_keys(
    const Left<false> (&query)[PARTS], const Rows& keys, Half* weights, float* factors, int count, float scale,
    const Place& place, Softmax& softmax
) {
    Sums score[PIECES];
    float shrink[2];
    find_scores<WHOLE>(query, keys, count, score);
    find_weights<WHOLE>(score, weights, count, scale, place, softmax, shrink);
    for (int r = 0; r < 2; ++r)
        if (place.column[0] == 0) factors[place.row[r]] = shrink[r];
}

// Of a warp's 16 queries, from `first` on, the inverse of each one's sum of weights, and logsumexp.
__device__ void write_sums(
    Softmax& softmax, float* factors, float* logsumexp, int first, int length, float scale, const Place& place
) {
    for (int r = 0; r < 2; ++r) {
        for (int m = 0; m < 2; ++m) softmax.sum[r] += __shfl_xor_sync(~0u, softmax.sum[r], place.mates[m]);
        if (place.column[0] != 0) continue;
        const int row = place.row[r];
        factors[row] = 1 / softmax.sum[r];
        if (first + row < length) logsumexp[first + row] = softmax.most[r] * scale + log_of_base_2(softmax.sum[r]);
    }
}

// A warp's half of the columns of 32 queries, from `first` on, to rows `stride` apart.
__device__ void write_output(
    const Sums (&gathered)[2][ACROSS], Half* output, int stride, int first, int length, int side, const Place& place
) {
#pragma unroll
    for (int n = 0; n < 2; ++n)
        for (int r = 0; r < 2; ++r) {
            const int row = first + 16 * n + place.row[r];
            if (row >= length) continue;
            Half* const to = output + u64(row) * stride;
#pragma unroll
            for (int part = 0; part < ACROSS; ++part)
                for (int i = 2 * r; i < 8; i += 4) {
                    const float* const pair = gathered[n][part].at + i;
                    store_pair(to + column_of_part(part, side) + place.column_of(i), pair[0], pair[1]);
                }
        }
}

// A block for each of `tiles` of 128 queries of each sequence and head. logsumexp [heads, tokens], to base 2, of the
// scaled scores. Shared memory is for the launch to give: ManyQueries.
extern "C" __global__ void __launch_bounds__(BOTH, 1) attend(
    const Half* q, const Half* k, const Half* v, int stride, const int* borders, int tokens, int heads, int tiles,
    float scale, Half* output, float* logsumexp
) {
    ManyQueries& shared = *reinterpret_cast<ManyQueries*>(given_memory());
    const int head = blockIdx.x % heads, first = blockIdx.x / heads % tiles * MANY, sequence = blockIdx.x / heads / tiles;
    const int begin = borders[sequence], length = borders[sequence + 1] - begin;
    const int warp = threadIdx.x / 32, own = 16 * warp, pair = warp / 2 * 32, side = warp % 2;
    if (first >= length) return;
    const Place place = find_place(reinterpret_cast<float*>(shared.weights));
    const u64 start = u64(begin) * stride + head * D;
    FetchedBy<BOTH> a, b;
    const auto fetch = [&](int key) {
        a.fetch(k + start + u64(key) * stride, stride, length - key);
        b.fetch(v + start + u64(key) * stride, stride, length - key);
    };
    const auto put = [&](int which) {
        a.put(shared.coming[which].keys);
        b.put(shared.coming[which].values);
    };
    a.fetch(q + start + u64(first) * stride, stride, length - first);
    b.fetch(q + start + u64(first + TILE) * stride, stride, length - first - TILE);
    put(1);
    fetch(0);
    put(0);
    __syncthreads();
    Left<false> query[PARTS];
    Sums gathered[2][ACROSS];
    const Rows& queries = own < TILE ? shared.coming[1].keys : shared.coming[1].values;
    hold_rows(queries.at + own % TILE * STRIDE, query);
    clear_all(gathered);
    __syncthreads();
    Softmax softmax = {{-1e30f, -1e30f}, {0, 0}};
    Half *const own_weights = shared.weights + own * WIDE, *const weights = shared.weights + pair * WIDE;
    const bool is_idle = first + pair >= length;
    for (int key = 0, which = 0; key < length; key += TILE, which ^= 1) {
        const int count = length - key;
        const bool is_whole = count >= TILE, is_last = count <= TILE;
        const Coming& tile = shared.coming[which];
        if (!is_idle) {
            float* const factors = shared.factors + own;
            if (is_whole) weigh_keys<true>(query, tile.keys, own_weights, factors, TILE, scale, place, softmax);
            else weigh_keys<false>(query, tile.keys, own_weights, factors, count, scale, place, softmax);
            wait_for_some(1 + warp / 2, 64);
        }
        if (!is_last) fetch(key + TILE);
        if (!is_idle) {
            scale_rows(gathered, shared.factors + pair, place);
            if (is_whole) gather<true, false, AT_ONCE>(weights, tile.values, side, TILE, gathered);
            else gather<false, false, AT_ONCE>(weights, tile.values, side, count, gathered);
        }
        if (!is_last) put(which ^ 1);
        __syncthreads();
    }
    if (is_idle) return;
    write_sums(softmax, shared.factors + own, logsumexp + u64(head) * tokens + begin, first + own, length, scale, place);
    wait_for_some(1 + warp / 2, 64);
    scale_rows(gathered, shared.factors + pair, place);
    write_output(gathered, output + (u64(begin) * heads + head) * D, heads * D, first + pair, length, side, place);
}
