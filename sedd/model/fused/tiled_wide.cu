// What the kernels for heads of 128 share: a warp gathers half of the columns of 32 rows, and its neighbour the other
// half, where one of narrower heads gathers all columns of 16. So a matrix read from shared memory serves twice.

constexpr int BOTH = 2 * CREW;  // threads: registers of four warps would not do
constexpr int ACROSS = PARTS / 2;  // matrices across a warp's columns

// The first column of a matrix: sides take turns in each half of a head, as write_gradient wants it.
__device__ int column_of_part(int part, int side) {
    return part / (ACROSS / 2) * (D / 2) + side * (D / 4) + part % (ACROSS / 2) * 16;
}

// Adds up a tile's rows, of which there are `count`, times the factors of a warp's 32 rows; these lie there turned if
// TURNED, a column for each row. UNROLLED: as many steps as registers allow.
template <bool WHOLE, bool TURNED, int UNROLLED> __device__ void gather(
    const Half* factors, const Rows& rows, int side, int count, Sums (&gathered)[2][ACROSS]
) {
#pragma unroll UNROLLED
    for (int j = 0; j < PIECES; ++j) {
        if (!WHOLE && 16 * j >= count) continue;
        Left<TURNED> factor[2];
#pragma unroll
        for (int n = 0; n < 2; ++n)
            load_matrix(factor[n], factors + (TURNED ? 16 * j * WIDE + 16 * n : 16 * n * WIDE + 16 * j), WIDE);
#pragma unroll
        for (int part = 0; part < ACROSS; ++part) {
            Right<false> row;
            load_matrix(row, rows.at + 16 * j * STRIDE + column_of_part(part, side), STRIDE);
#pragma unroll
            for (int n = 0; n < 2; ++n) multiply(gathered[n][part], factor[n], row);
        }
    }
}

__device__ void clear_all(Sums (&gathered)[2][ACROSS]) {
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int part = 0; part < ACROSS; ++part) clear(gathered[n][part]);
}

// A warp's 16 rows, from shared memory into registers.
template <class Matrix> __device__ void hold_rows(const Half* rows, Matrix (&held)[PARTS]) {
#pragma unroll
    for (int part = 0; part < PARTS; ++part) load_matrix(held[part], rows + 16 * part, STRIDE);
}

// Gradients of a warp's half of the columns of 32 rows, of which `rows` exist: as write_gradient does.
__device__ void write_gradients(
    Sums (&gathered)[2][ACROSS], const Place& place, int rows, int token, int side, float factor, const float* cosine,
    const float* sine, Half* to, int stride
) {
    const int column = column_of_part(0, side);
    if (cosine) cosine += column, sine += column;
#pragma unroll
    for (int n = 0; n < 2; ++n)
        write_gradient(
            gathered[n], place, rows - 16 * n, token + 16 * n, factor, cosine, sine, to + column, stride
        );
}
