// Tiles of 64 queries or keys of one head in shared memory, for attention; see tiled_attention.py.
//
// q, k, v: [tokens, heads, HEAD_DIM] in half precision, tokens `stride` apart; sequences lie between `borders`. A block
// takes a tile of one head, each of its warps 16 rows, and goes through the other side of the sequence tile by tile.

constexpr int D = HEAD_DIM, PARTS = D / 16, TILE = 64, PIECES = TILE / 16, CREW = 32 * PIECES;
constexpr int STRIDE = D + 8, WIDE = TILE + 8;  // of rows in shared memory: eight more, so that they begin in other banks

struct alignas(32) Rows { Half at[TILE * STRIDE]; };
struct alignas(32) Weights { Half at[TILE * WIDE]; };
typedef Vector<u32, 4> Eight;  // numbers in half precision

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
