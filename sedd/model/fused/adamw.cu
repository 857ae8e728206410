// Clipping, AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) and the average of the weights in one pass over them. See
// sedd/training/one_pass.py.

// Where the numbers of a parameter lie, all float32; `step` counts its steps.
struct Parameter {
    float *weight, *momentum, *square, *average, *step;
    const float* gradient;
    u64 count;
    float decay, share;  // weight decay; the learning rate, as a share of the step's
};

struct Settings {
    double beta1, beta2;
    float rate, epsilon, follow, clip;  // follow: the share by which the average moves towards the weight
};

// What all parameters share: filled by `gradient_norm`.
struct Shared {
    float norm, bad, factor;  // factor: by which gradients are multiplied, unscaled and clipped
};

constexpr int CHUNK = 16384;  // numbers of a block

template <typename Visit> __device__ void each_four(const Parameter& p, u64 first, Visit visit) {
    const u64 end = first + CHUNK < p.count ? first + CHUNK : p.count;
    for (u64 at = first + 4 * threadIdx.x; at < end; at += 4 * blockDim.x) visit(at, end - at < 4 ? int(end - at) : 4);
}

__device__ bool is_aligned(const void* place) { return reinterpret_cast<u64>(place) % 16 == 0; }

__device__ void take(const float* from, int count, float (&to)[4]) {
    if (count == 4 && is_aligned(from)) return load<0>(from, to);
    for (int i = 0; i < 4; ++i) to[i] = i < count ? from[i] : 0;
}

__device__ void put(float* to, int count, const float (&from)[4]) {
    if (count == 4 && is_aligned(to)) return store<0>(to, from);
    for (int i = 0; i < count; ++i) to[i] = from[i];
}

// The sum over a block of 256 threads, in a fixed order; in thread 0.
__device__ double block_sum(double value) {
    __shared__ double all[256];
    all[threadIdx.x] = value;
    for (int half = 128; half; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) all[threadIdx.x] += all[threadIdx.x + half];
    }
    return all[0];
}

// The sum of squares of each chunk of the gradients, which are still scaled by *scale (null: not scaled).
extern "C" __global__ void __launch_bounds__(256) squared_gradients(
    const Parameter* parameters, const int* owners, const u64* starts, const float* scale, float* sums
) {
    const Parameter p = parameters[owners[blockIdx.x]];
    const float unscale = scale ? 1 / *scale : 1;
    float sum = 0;
    each_four(p, starts[blockIdx.x], [&](u64 at, int count) {
        float g[4];
        take(p.gradient + at, count, g);
        for (int i = 0; i < 4; ++i) sum += g[i] * unscale * (g[i] * unscale);
    });
    const double all = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = all;
}

// The norm of all gradients, whether it is no number, and what they are multiplied by. One block. Counts the step where it
// is taken.
extern "C" __global__ void __launch_bounds__(256) gradient_norm(
    const Parameter* parameters, int count, const float* sums, int chunks, const float* scale, Settings set, Shared* shared
) {
    double sum = 0;
    for (int chunk = threadIdx.x; chunk < chunks; chunk += blockDim.x) sum += sums[chunk];
    __shared__ float bad;
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        const float norm = sqrt(sum), unscale = scale ? 1 / *scale : 1;
        bad = !(norm - norm == 0);
        *shared = Shared{norm, bad, unscale * min(1.0f, set.clip / (norm + 1e-6f))};
    }
    __syncthreads();
    for (int which = threadIdx.x; which < count && !bad; which += blockDim.x) *parameters[which].step += 1;
}

extern "C" __global__ void __launch_bounds__(256) adamw(
    const Parameter* parameters, const int* owners, const u64* starts, const Shared* shared, Settings set
) {
    const Parameter p = parameters[owners[blockIdx.x]];
    const Shared s = *shared;
    __shared__ float rate, root;
    if (threadIdx.x == 0) {
        rate = set.rate * p.share / (1 - pow(set.beta1, double(*p.step)));
        root = sqrt(1 - pow(set.beta2, double(*p.step)));
    }
    __syncthreads();
    const float shrink = 1 - set.rate * p.share * p.decay, beta1 = set.beta1, beta2 = set.beta2;
    each_four(p, starts[blockIdx.x], [&](u64 at, int count) {
        float w[4], e[4];
        take(p.weight + at, count, w);
        take(p.average + at, count, e);
        if (!s.bad) {
            float g[4], m[4], v[4];
            take(p.gradient + at, count, g);
            take(p.momentum + at, count, m);
            take(p.square + at, count, v);
            for (int i = 0; i < 4; ++i) {
                g[i] *= s.factor;
                m[i] += (1 - beta1) * (g[i] - m[i]);
                v[i] = beta2 * v[i] + (1 - beta2) * (g[i] * g[i]);
                w[i] = shrink * w[i] - rate * m[i] / (sqrtf(v[i]) / root + set.epsilon);
            }
            put(p.momentum + at, count, m);
            put(p.square + at, count, v);
            put(p.weight + at, count, w);
        }
        for (int i = 0; i < 4; ++i) e[i] += set.follow * (w[i] - e[i]);
        put(p.average + at, count, e);
    });
}
