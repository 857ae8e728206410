// Gradients of keys and values of heads of 128, for which tiled_backward_keys.cu has too few registers: eight warps.
//
// A warp of the first four holds 16 keys and finds their weights; its mate, four warps on, holds the values, takes the
// weights from shared memory and finds the gradients of the scores. These it also leaves in device memory, so that
// tiled_backward_scores.cu need not find them again. Then the first four gather the gradients of the values and the others
// those of the keys. What the two do differs only in which rows they read. The next tile of queries comes while one is
// gone through.

struct Passing { Rows queries, gradients; };

struct WideTiles {
    Passing passing[2];
    Weights weights, d_scores;
    alignas(8) float of_rows[2][TILE][2];  // logsumexp and delta
};

static_assert(sizeof(WideTiles) == BACKWARD_SHARED, "what tiled_attention.py asks for");

// Products of a tile's rows, of which there are `count`, and of a warp's 16 keys or values.
template <bool WHOLE> __device__ void multiply_rows(
    const Rows& rows, int count, const Right<true> (&own)[PARTS], Sums (&product)[PIECES]
) {
#pragma unroll
    for (int i = 0; i < PIECES; ++i) {
        if (!WHOLE && 16 * i >= count) continue;
        clear(product[i]);
#pragma unroll
        for (int part = 0; part < PARTS; ++part) {
            Left<false> row;
            load_matrix(row, rows.at + 16 * i * STRIDE + 16 * part, STRIDE);
            multiply(product[i], row, own[part]);
        }
    }
}

// A warp's columns of the weights from the scores: exponentials.
template <bool WHOLE> __device__ void write_weights(
    const Sums (&score)[PIECES], const float (&of_rows)[TILE][2], int count, float scale, const Place& place, Half* weights
) {
#pragma unroll
    for (int i = 0; i < PIECES; ++i) {
        if (!WHOLE && 16 * i >= count) continue;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = 16 * i + place.row[r];
            const float shift = of_rows[row][0];
#pragma unroll
            for (int e = 2 * r; e < 8; e += 4) {
                const float first = power_of_2(score[i].at[e] * scale - shift);
                const float second = power_of_2(score[i].at[e + 1] * scale - shift);
                store_pair(weights + row * WIDE + place.column_of(e), first, second);
            }
        }
    }
}

// The same columns of the scores' gradients, from the weights and their gradients; zero for all but `keys` of them.
template <bool WHOLE> __device__ void write_d_scores(
    const Sums (&d_weight)[PIECES], const float (&of_rows)[TILE][2], int count, int keys, const Place& place,
    const Half* weights, Half* d_scores
) {
#pragma unroll
    for (int i = 0; i < PIECES; ++i) {
        if (!WHOLE && 16 * i >= count) continue;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = 16 * i + place.row[r];
            const float delta = of_rows[row][1];
#pragma unroll
            for (int e = 2 * r; e < 8; e += 4) {
                const int column = place.column_of(e), there = row * WIDE + column;
                float weight[2];
                load<1>(weights + there, weight);
                for (int n = 0; n < 2; ++n)
                    weight[n] = column + n < keys ? weight[n] * (d_weight[i].at[e + n] - delta) : 0;
                store_pair(d_scores + there, weight[0], weight[1]);
            }
        }
    }
}

// A warp's columns of a tile as they lie in shared memory, to rows of device memory, of which there are `count`.
__device__ void copy_columns(const Half* from, int count, Half* to, u64 stride) {
    for (int row = threadIdx.x % 32 / 2; row < min(count, TILE); row += 16) {
        const int column = threadIdx.x % 2 * 8;
        *reinterpret_cast<Eight*>(to + row * stride + column) = *reinterpret_cast<const Eight*>(from + row * WIDE + column);
    }
}

// A tile's weights and gradients of its scores, of which the mates write one each. All threads of the block come here.
template <bool WHOLE> __device__ void write_factors(
    WideTiles& tiles, int which, bool has_keys, int own, int count, int keys, float scale, const Place& place,
    const Right<true> (&held)[PARTS]
) {
    const Passing& passing = tiles.passing[which];
    Half* const weights = tiles.weights.at + own;
    Sums product[PIECES];
    multiply_rows<WHOLE>(has_keys ? passing.queries : passing.gradients, count, held, product);
    if (has_keys) write_weights<WHOLE>(product, tiles.of_rows[which], count, scale, place, weights);
    wait_for_some(1 + own / 32, 128);
    if (has_keys) return;
    write_d_scores<WHOLE>(product, tiles.of_rows[which], count, keys - own, place, weights, tiles.d_scores.at + own);
    wait_for_some(3 + own / 32, 64);
}

// As attend_backward_kv of narrower heads, of `some` heads from `first_head` on. d_scores [some, tokens, TILE tiles]:
// gradients of the scores by the keys of each query's sequence. Shared memory is for the launch to give: WideTiles.
extern "C" __global__ void __launch_bounds__(BOTH, 1) attend_backward_kv(
    const Half* q, const Half* k, const Half* v, int stride, const Half* d_output, const float* logsumexp,
    const int* borders, int tokens, int heads, int tiles, float logarithmic, float scale, const float* cosine,
    const float* sine, const float* deltas, Half* d_k, Half* d_v, int d_stride, int first_head, int some, Half* d_scores
) {
    WideTiles& shared = *reinterpret_cast<WideTiles*>(given_memory());
    const int which_head = blockIdx.x % some, head = first_head + which_head;
    const int first = blockIdx.x / some % tiles * TILE, sequence = blockIdx.x / some / tiles;
    const int begin = borders[sequence], length = borders[sequence + 1] - begin;
    const int warp = threadIdx.x / 32 % PIECES, own = 16 * warp, pair = warp / 2 * 32, side = warp % 2;
    const bool has_keys = threadIdx.x < CREW;
    if (first >= length) return;
    const int keys = min(TILE, length - first), out = heads * D;
    const Place place = find_place(reinterpret_cast<float*>(shared.weights.at));
    const u64 start = u64(begin) * stride + head * D, out_start = u64(begin) * out + head * D;
    const u64 row_start = u64(head) * tokens + begin;
    const u64 kept_stride = u64(tiles) * TILE;
    Half* const kept = d_scores + (u64(which_head) * tokens + begin) * kept_stride + first + own;
    FetchedBy<BOTH> a, b;
    float of_row[2];
    const auto fetch = [&](int query) {
        a.fetch(q + start + u64(query) * stride, stride, length - query);
        b.fetch(d_output + out_start + u64(query) * out, out, length - query);
        const int row = query + threadIdx.x;
        const bool is_one = threadIdx.x < TILE && row < length;
        of_row[0] = is_one ? logsumexp[row_start + row] : 1e30f;
        of_row[1] = is_one ? deltas[row_start + row] : 0;
    };
    const auto put = [&](int which) {
        a.put(shared.passing[which].queries);
        b.put(shared.passing[which].gradients);
        if (threadIdx.x < TILE) store<0>(shared.of_rows[which][threadIdx.x], of_row);
    };
    a.fetch(k + start + u64(first) * stride, stride, keys);
    b.fetch(v + start + u64(first) * stride, stride, keys);
    a.put(shared.passing[1].queries);
    b.put(shared.passing[1].gradients);
    fetch(0);
    put(0);
    __syncthreads();
    Right<true> held[PARTS];
    Sums gathered[2][ACROSS];
    const Rows& holding = has_keys ? shared.passing[1].queries : shared.passing[1].gradients;
    hold_rows(holding.at + own * STRIDE, held);
    clear_all(gathered);
    __syncthreads();
    const Half* const factors = (has_keys ? shared.weights.at : shared.d_scores.at) + pair;
    for (int query = 0, which = 0; query < length; query += TILE, which ^= 1) {
        const int count = length - query;
        const bool is_whole = count >= TILE, is_last = count <= TILE;
        const Rows& rows = has_keys ? shared.passing[which].gradients : shared.passing[which].queries;
        if (is_whole) write_factors<true>(shared, which, has_keys, own, TILE, keys, logarithmic, place, held);
        else write_factors<false>(shared, which, has_keys, own, count, keys, logarithmic, place, held);
        if (!is_last) fetch(query + TILE);
        if (!has_keys) copy_columns(shared.d_scores.at + own, count, kept + query * kept_stride, kept_stride);
        if (is_whole) gather<true, true, PIECES>(factors, rows, side, TILE, gathered);
        else gather<false, true, PIECES>(factors, rows, side, count, gathered);
        if (!is_last) put(which ^ 1);
        __syncthreads();
    }
    const int rows = keys - pair, token = begin + first + pair;
    if (has_keys) write_gradients(gathered, place, rows, token, side, 1, nullptr, nullptr, d_v + head * D, d_stride);
    else write_gradients(gathered, place, rows, token, side, scale, cosine, sine, d_k + head * D, d_stride);
}
