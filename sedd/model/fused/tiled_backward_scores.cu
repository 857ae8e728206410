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

// sum(d_output output) of 64 tokens of a head.
extern "C" __global__ void __launch_bounds__(CREW) find_all_deltas(
    const Half* output, const Half* d_output, int tokens, int heads, float* deltas
) {
    const int head = blockIdx.x % heads, first = blockIdx.x / heads * TILE;
    const u64 start = (u64(first) * heads + head) * D;
    float* const to = deltas + u64(head) * tokens + first;
    find_deltas<false>(output + start, d_output + start, heads * D, tokens - first, nullptr, to);
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
    const Half* const own_scores = shared.d_scores.at + own * WIDE;
    Sums d_query[2][ACROSS];
    clear_all(d_query);
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
        if (count >= TILE) gather<true, false, PIECES>(own_scores, shared.keys, side, TILE, d_query);
        else gather<false, false, PIECES>(own_scores, shared.keys, side, count, d_query);
    }
    const int token = begin + first + own;
    write_gradients(d_query, place, queries - own, token, side, scale, cosine, sine, d_q + head * D, d_stride);
}
