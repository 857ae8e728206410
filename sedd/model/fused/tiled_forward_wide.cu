// Attention of heads of 128: tiles of 128 queries, eight warps. As in tiled_forward.cu a warp finds the scores of 16
// queries; then it gathers values for half of the columns of 32, which it shares with its neighbour: so a matrix from
// shared memory serves twice. The next tile of keys comes while one is gone through.

constexpr int BOTH = 2 * CREW, MANY = 2 * TILE;
constexpr int ACROSS = PARTS / 2;  // of a warp's columns: half of a head, which are as many of each of its halves

// The first column of a warp's part: sides take turns in each half of a head, as write_gradient wants it.
__device__ int column_of_part(int part, int side) {
    return part / (ACROSS / 2) * (D / 2) + side * (D / 4) + part % (ACROSS / 2) * 16;
}

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

// Adds up a tile's values, of half of the columns, times 32 queries' weights.
template <bool WHOLE> __device__ void gather_values(
    const Half* weights, const Rows& values, int side, int count, Sums (&gathered)[2][ACROSS]
) {
#pragma unroll 2
    for (int j = 0; j < PIECES; ++j) {
        if (!WHOLE && 16 * j >= count) continue;
        Left<false> weight[2];
#pragma unroll
        for (int n = 0; n < 2; ++n) load_matrix(weight[n], weights + 16 * n * WIDE + 16 * j, WIDE);
#pragma unroll
        for (int part = 0; part < ACROSS; ++part) {
            Right<false> value;
            load_matrix(value, values.at + 16 * j * STRIDE + column_of_part(part, side), STRIDE);
#pragma unroll
            for (int n = 0; n < 2; ++n) multiply(gathered[n][part], weight[n], value);
        }
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

// As attend, for `tiles` of 128 queries. Shared memory is for the launch to give: ManyQueries.
extern "C" __global__ void __launch_bounds__(BOTH, 1) attend_wide(
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
    a.fetch(q + start + u64(first) * stride, stride, length - first);
    b.fetch(q + start + u64(first + TILE) * stride, stride, length - first - TILE);
    a.put(shared.coming[1].keys);
    b.put(shared.coming[1].values);
    a.fetch(k + start, stride, length);
    b.fetch(v + start, stride, length);
    a.put(shared.coming[0].keys);
    b.put(shared.coming[0].values);
    __syncthreads();
    Left<false> query[PARTS];
    Sums gathered[2][ACROSS];
    const Rows& queries = own < TILE ? shared.coming[1].keys : shared.coming[1].values;
#pragma unroll
    for (int part = 0; part < PARTS; ++part) {
        load_matrix(query[part], queries.at + own % TILE * STRIDE + 16 * part, STRIDE);
        clear(gathered[part % 2][part / 2]);
    }
    __syncthreads();
    Softmax softmax = {{-1e30f, -1e30f}, {0, 0}};
    Half *const own_weights = shared.weights + own * WIDE, *const weights = shared.weights + pair * WIDE;
    const bool is_idle = first + pair >= length;
    for (int key = 0, which = 0; key < length; key += TILE, which ^= 1) {
        const int count = length - key, next = key + TILE;
        const bool is_whole = count >= TILE, is_last = next >= length;
        const Coming& tile = shared.coming[which];
        if (!is_idle) {
            float* const factors = shared.factors + own;
            if (is_whole) weigh_keys<true>(query, tile.keys, own_weights, factors, TILE, scale, place, softmax);
            else weigh_keys<false>(query, tile.keys, own_weights, factors, count, scale, place, softmax);
            wait_for_some(1 + warp / 2, 64);
        }
        if (!is_last) {
            a.fetch(k + start + u64(next) * stride, stride, length - next);
            b.fetch(v + start + u64(next) * stride, stride, length - next);
        }
        if (!is_idle) {
            scale_rows(gathered, shared.factors + pair, place);
            if (is_whole) gather_values<true>(weights, tile.values, side, TILE, gathered);
            else gather_values<false>(weights, tile.values, side, count, gathered);
        }
        if (!is_last) {
            a.put(shared.coming[which ^ 1].keys);
            b.put(shared.coming[which ^ 1].values);
        }
        __syncthreads();
    }
    if (is_idle) return;
    for (int r = 0; r < 2; ++r) {
        for (int m = 0; m < 2; ++m) softmax.sum[r] += __shfl_xor_sync(~0u, softmax.sum[r], place.mates[m]);
        const int row = own + place.row[r];
        if (place.column[0] == 0) shared.factors[row] = 1 / softmax.sum[r];
        if (place.column[0] == 0 && first + row < length)
            logsumexp[u64(head) * tokens + begin + first + row] = softmax.most[r] * scale + log_of_base_2(softmax.sum[r]);
    }
    wait_for_some(1 + warp / 2, 64);
    scale_rows(gathered, shared.factors + pair, place);
#pragma unroll
    for (int n = 0; n < 2; ++n)
        for (int r = 0; r < 2; ++r) {
            const int row = first + pair + 16 * n + place.row[r];
            if (row >= length) continue;
            Half* const to = output + (u64(begin + row) * heads + head) * D;
#pragma unroll
            for (int part = 0; part < ACROSS; ++part)
                for (int i = 2 * r; i < 8; i += 4)
                    store_pair(
                        to + column_of_part(part, side) + place.column_of(i), gathered[n][part].at[i],
                        gathered[n][part].at[i + 1]
                    );
        }
}
