// Number formats, and neighbours in one access to memory; in front of every other source. See launch.py.
//
// Compiled at run time for the card at hand (nvrtc.py): needs no header and no Triton. Compiled for 7.0 to 9.0, run on 9.0.
// Given by the compiler's options: IN and OUT, the number formats of what enters from a branch and of what leaves: 0
// float32, 1 float16, 2 bfloat16. All sums have a fixed order.

typedef unsigned int u32;
typedef unsigned long long u64;

// Number formats, as bits: their types are in headers that a user's machine may lack.

template <int FORMAT> struct Bits { typedef unsigned short type; };
template <> struct Bits<0> { typedef float type; };
typedef Bits<IN>::type In;
typedef Bits<OUT>::type Out;

#ifdef __CUDACC__
__device__ float half_to_float(unsigned short bits) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(bits));
    return wide;
}

__device__ unsigned short float_to_half(float wide) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(wide));
    return bits;
}
#endif  // elsewhere, in tests/model/cuda_on_cpu.h

template <int FORMAT> __device__ float widen(typename Bits<FORMAT>::type bits) {
    if constexpr (FORMAT == 0) return bits;
    if constexpr (FORMAT == 1) return half_to_float(bits);
    if constexpr (FORMAT == 2) return __uint_as_float(u32(bits) << 16);
}

template <int FORMAT> __device__ typename Bits<FORMAT>::type narrow(float wide) {
    if constexpr (FORMAT == 0) return wide;
    if constexpr (FORMAT == 1) return float_to_half(wide);
    if constexpr (FORMAT == 2) {
        const u32 bits = __float_as_uint(wide);
        if (wide != wide) return 0x7fc0;
        return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // to the nearest, ties to even
    }
}

// Neighbours in one access to memory: four columns, or eight.

template <typename T, int N> struct alignas(N * sizeof(T)) Vector { T at[N]; };

template <int FORMAT, int N> __device__ void load(const typename Bits<FORMAT>::type* from, float (&to)[N]) {
    typedef Vector<typename Bits<FORMAT>::type, N> Neighbours;
    const Neighbours bits = *reinterpret_cast<const Neighbours*>(from);
    for (int i = 0; i < N; ++i) to[i] = widen<FORMAT>(bits.at[i]);
}

template <int FORMAT, int N> __device__ void store(typename Bits<FORMAT>::type* to, const float (&from)[N]) {
    typedef Vector<typename Bits<FORMAT>::type, N> Neighbours;
    Neighbours bits;
    for (int i = 0; i < N; ++i) bits.at[i] = narrow<FORMAT>(from[i]);
    *reinterpret_cast<Neighbours*>(to) = bits;
}
