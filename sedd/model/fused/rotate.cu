// Queries and keys, turned by each token's angles (rotary.py), and values as they are, side by side into qkv [tokens, 3,
// heads, 2 half]; `way` -1 turns back. A token's rows of q, k and v lie `stride` apart. In place where those are qkv's
// own: then v is null. One thread for four pairs of HEADS heads, which turn alike; `half` is a multiple of 4.
constexpr int HEADS = 4;

extern "C" __global__ void rotate(
    const In* q, const In* k, const In* v, int stride, const float* cosine, const float* sine,
    int tokens, int heads, int half, float way, In* qkv
) {
    typedef Vector<In, 4> Four;
    const u64 thread = u64(blockIdx.x) * blockDim.x + threadIdx.x;
    const int all = (v ? 3 : 2) * heads, bunches = (all + HEADS - 1) / HEADS, groups = half / 4;
    const int pair = 4 * int(thread % groups), first = HEADS * int(thread / groups % bunches);
    const u64 token = thread / groups / bunches;
    if (token >= tokens) return;
    Four a[HEADS], b[HEADS];
    for (int i = 0; i < HEADS; ++i) {
        const int which = min(first + i, all - 1), part = which / heads, head = which % heads;
        const In* from = (part == 0 ? q : part == 1 ? k : v) + token * stride + head * 2 * half + pair;
        a[i] = *reinterpret_cast<const Four*>(from);
        b[i] = *reinterpret_cast<const Four*>(from + half);
    }
    float c[4], s[4];
    load<0>(cosine + token * half + pair, c);
    load<0>(sine + token * half + pair, s);
    for (int i = 0; i < HEADS && first + i < all; ++i) {
        if (first + i < 2 * heads)
            for (int j = 0; j < 4; ++j) {
                const float x = widen<IN>(a[i].at[j]), y = widen<IN>(b[i].at[j]);
                a[i].at[j] = narrow<IN>(x * c[j] - way * y * s[j]);
                b[i].at[j] = narrow<IN>(y * c[j] + way * x * s[j]);
            }
        In* to = qkv + ((token * 3) * heads + first + i) * 2 * half + pair;
        *reinterpret_cast<Four*>(to) = a[i];
        *reinterpret_cast<Four*>(to + half) = b[i];
    }
}
