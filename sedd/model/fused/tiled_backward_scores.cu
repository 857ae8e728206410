// Gradients of queries of heads of 128 from those of the scores, which tiled_backward_wide.cu left in device memory: one
// product of matrices where tiled_backward.cu computes three.

#if __CUDA_ARCH__ < 750
constexpr int SCORES_BLOCKS = 2;
#else
constexpr int SCORES_BLOCKS = 3;
#endif

struct ScoreTiles { Rows keys; Weights d_scores; };

// A tile of the scores' gradients on its way to shared memory; zero from `rows` on.
struct FetchedScores {
    static constexpr int FETCHES = TILE * TILE / 8 / CREW, IN_ROW = TILE / 8;
    Eight at[FETCHES];
    __device__ void fetch(const Half* from, u64 stride, int rows) {
        for (int i = 0; i < FETCHES; ++i) {
            const int which = threadIdx.x + i * CREW, row = which / IN_ROW, column = which % IN_ROW * 8;
            if (row < rows) at[i] = *reinterpret_cast<const Eight*>(from + row * stride + column);
            else at[i] = Eight{};
        }
    }
    __device__ void put(Weights& to) const {
        for (int i = 0; i < FETCHES; ++i) {
            const int which = threadIdx.x + i * CREW, row = which / IN_ROW, column = which % IN_ROW * 8;
            *reinterpret_cast<Eight*>(to.at + row * WIDE + column) = at[i];
        }
    }
};

// A warp's 32 queries and half of the columns, `side` 0 or 1, by a tile of keys, of which there are `count`.
template <bool WHOLE> __device__ void add_keys(
    const ScoreTiles& tiles, int own, int side, int count, Sums (&d_query)[2][ACROSS]
) {
#pragma unroll
    for (int j = 0; j < PIECES; ++j) {
        if (!WHOLE && 16 * j >= count) continue;
        Left<false> d_score[2];
#pragma unroll
        for (int n = 0; n < 2; ++n) load_matrix(d_score[n], tiles.d_scores.at + (own + 16 * n) * WIDE + 16 * j, WIDE);
#pragma unroll
        for (int part = 0; part < ACROSS; ++part) {
            Right<false> key;
            load_matrix(key, tiles.keys.at + 16 * j * STRIDE + column_of_part(part, side), STRIDE);
#pragma unroll
            for (int n = 0; n < 2; ++n) multiply(d_query[n][part], d_score[n], key);
        }
    }
}

// sum(d_output output) of 64 tokens of a head.
extern "C" __global__ void __launch_bounds__(CREW) find_all_deltas(
    const Half* output, const Half* d_output, int tokens, int heads, float* deltas
) {
    __shared__ float unused[TILE];
    const int head = blockIdx.x % heads, first = blockIdx.x / heads * TILE;
    const u64 start = (u64(first) * heads + head) * D;
    find_deltas(output + start, d_output + start, heads * D, tokens - first, unused, deltas + u64(head) * tokens + first);
}

// d_scores as attend_backward_kv keeps them, of `some` heads from `first_head` on.
extern "C" __global__ void __launch_bounds__(CREW, SCORES_BLOCKS) attend_backward_scores(
    const Half* k, int stride, const Half* d_scores, const int* borders, int tokens, int tiles, float scale,
    const float* cosine, const float* sine, Half* d_q, int d_stride, int first_head, int some
) {
    __shared__ ScoreTiles shared;
    const int which_head = blockIdx.x % some, head = first_head + which_head;
    const int first = blockIdx.x / some % tiles * TILE, sequence = blockIdx.x / some / tiles;
    const int begin = borders[sequence], length = borders[sequence + 1] - begin;
    const int warp = threadIdx.x / 32, own = warp / 2 * 32, side = warp % 2;
    if (first >= length) return;
    const Place place = find_place(reinterpret_cast<float*>(shared.d_scores.at));
    const int queries = min(TILE, length - first);
    const u64 kept_stride = u64(tiles) * TILE;
    const Half* const keys = k + u64(begin) * stride + head * D;
    const Half* const rows = d_scores + (u64(which_head) * tokens + begin + first) * kept_stride;
    Sums d_query[2][ACROSS];
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int part = 0; part < ACROSS; ++part) clear(d_query[n][part]);
    Fetched a;
    FetchedScores b;
    a.fetch(keys, stride, length);
    b.fetch(rows, kept_stride, queries);
    for (int key = 0; key < length; key += TILE) {
        const int count = length - key, next = key + TILE;
        __syncthreads();
        a.put(shared.keys);
        b.put(shared.d_scores);
        __syncthreads();
        if (next < length) {
            a.fetch(keys + u64(next) * stride, stride, length - next);
            b.fetch(rows + next, kept_stride, queries);
        }
        if (own >= queries) continue;
        if (count >= TILE) add_keys<true>(shared, own, side, TILE, d_query);
        else add_keys<false>(shared, own, side, count, d_query);
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
        const int from = own + 16 * n, column = column_of_part(0, side);
        write_gradient(
            d_query[n], place, queries - from, begin + first + from, scale, cosine ? cosine + column : cosine,
            sine ? sine + column : sine, d_q + head * D + column, d_stride
        );
    }
}
