// Products of 16 x 16 matrices on a card's matrix units (PTX's wmma, from 7.0 on): half precision, sums in float32.
//
// How a warp holds a matrix differs from card to card, and PTX leaves it open. What is used of it, `layout` shows and
// tiled_attention.py checks on the card: entries 2 i and 2 i + 1 of a lane are neighbours in a row; bit 1 of an entry's
// number chooses between two rows and bit 2 between two columns; the lanes of a row differ in two bits of their numbers.

typedef unsigned short Half;

#ifdef __CUDACC__
template <bool TURNED> struct Left { u32 at[8]; };
template <bool TURNED> struct Right { u32 at[8]; };
struct Sums { float at[8]; };

#define FOUR(x, as, n) as((x).at[n]), as((x).at[n + 1]), as((x).at[n + 2]), as((x).at[n + 3])
#define EIGHT(x, as) FOUR(x, as, 0), FOUR(x, as, 4)
#define WRITTEN(x) "=r"(x)
#define READ(x) "r"(x)
#define ADDED(x) "+f"(x)
#define FILLED(x) "=f"(x)
#define LOAD(side, layout, fragment) \
    asm volatile("wmma.load." side ".sync.aligned." layout ".m16n16k16.shared.f16 {%0,%1,%2,%3,%4,%5,%6,%7}, [%8], %9;" \
                 : EIGHT(fragment, WRITTEN) : "r"(u32(__cvta_generic_to_shared(from))), "r"(stride) : "memory")

// Rows lie `stride` apart in shared memory; TURNED: the matrix is the transpose of what lies there.
template <bool TURNED> __device__ void load_matrix(Left<TURNED>& a, const Half* from, int stride) {
    if constexpr (TURNED) LOAD("a", "col", a);
    else LOAD("a", "row", a);
}

template <bool TURNED> __device__ void load_matrix(Right<TURNED>& b, const Half* from, int stride) {
    if constexpr (TURNED) LOAD("b", "col", b);
    else LOAD("b", "row", b);
}

__device__ void load_matrix(Sums& c, const float* from, int stride) {
    asm volatile("wmma.load.c.sync.aligned.row.m16n16k16.shared.f32 {%0,%1,%2,%3,%4,%5,%6,%7}, [%8], %9;"
                 : EIGHT(c, FILLED) : "r"(u32(__cvta_generic_to_shared(from))), "r"(stride) : "memory");
}

#define MULTIPLY(layouts) \
    asm volatile("wmma.mma.sync.aligned." layouts ".m16n16k16.f32.f32 {%0,%1,%2,%3,%4,%5,%6,%7}, " \
                 "{%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19,%20,%21,%22,%23}, {%0,%1,%2,%3,%4,%5,%6,%7};" \
                 : EIGHT(c, ADDED) : EIGHT(a, READ), EIGHT(b, READ))

// c += a b
template <bool A, bool B> __device__ void multiply(Sums& c, const Left<A>& a, const Right<B>& b) {
    if constexpr (A && B) MULTIPLY("col.col");
    else if constexpr (A) MULTIPLY("col.row");
    else if constexpr (B) MULTIPLY("row.col");
    else MULTIPLY("row.row");
}

__device__ float power_of_2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ float log_of_base_2(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// As __syncthreads, for some warps of a block alone, who share a number from 1 to 15.
__device__ void wait_for_some(int number, int threads) {
    asm volatile("bar.sync %0, %1;" :: "r"(number), "r"(threads) : "memory");
}

// Shared memory of the size that a launch asks for.
__device__ void* given_memory() {
    extern __shared__ Vector<float, 32> memory[];
    return memory;
}
#endif  // elsewhere, in tests/model/cuda_on_cpu.h

__device__ u32 half_pair(float first, float second) {
    return u32(float_to_half(first)) | u32(float_to_half(second)) << 16;
}

// Which entries of a matrix of sums a lane holds.
struct Place {
    int row[2], column[2];
    int mates[2];  // bits in which the lanes of a row differ
    __device__ static int half_of(int i) { return i >> 1 & 1; }    // of `row`
    __device__ int column_of(int i) const { return column[i >> 2 & 1] + (i & 1); }
};

// `scratch`: 256 floats in shared memory, free again when all threads of the block are back.
__device__ Place find_place(float* scratch) {
    for (int i = threadIdx.x; i < 256; i += blockDim.x) scratch[i] = i;
    __syncthreads();
    Sums index;
    load_matrix(index, scratch, 16);
    Place place;
    for (int i = 0; i < 2; ++i) {
        place.row[i] = int(index.at[2 * i]) / 16;
        place.column[i] = int(index.at[4 * i]) % 16;
    }
    place.mates[0] = place.mates[1] = 0;
    for (int bit = 1; bit < 32; bit *= 2)
        if (int(__shfl_xor_sync(~0u, float(place.row[0]), bit)) == place.row[0]) {
            place.mates[0] = place.mates[1];
            place.mates[1] = bit;
        }
    __syncthreads();
    return place;
}

// Of each lane's eight entries the place, row times 16 plus column. One warp.
extern "C" __global__ void layout(float* places) {
    struct alignas(32) Scratch { float at[256]; };
    __shared__ Scratch scratch;
    for (int i = threadIdx.x; i < 256; i += blockDim.x) scratch.at[i] = i;
    __syncthreads();
    Sums index;
    load_matrix(index, scratch.at, 16);
    for (int i = 0; i < 8; ++i) places[8 * threadIdx.x + i] = index.at[i];
}
