/* ReLU and GELU. */
#include "gpu/cuda/map.cuh"

namespace {

struct relu {
    enum { inputs = 1 };
    __device__ float operator()(float x, float) const {
        return x > 0 ? x : 0;
    }
};

struct relu_gradient {
    enum { inputs = 2 };
    __device__ float operator()(float y, float dy) const {
        return y > 0 ? dy : 0;
    }
};

/* 1 / (1 + e^-2u) with u = sqrt(2/pi) (x + 0.044715 x^3), so that GELU(x) = x * gate(x): tanh u = 2 sigmoid(2u) - 1. */
CUDA_INLINE float gate(float x) {
    return 1.0f / (1.0f + expf(-1.59576912f * (x + 0.044715f * x * x * x)));
}

struct gelu {
    enum { inputs = 1 };
    __device__ float operator()(float x, float) const {
        return x * gate(x);
    }
};

/* d(x s)/dx = s + x s (1 - s) 2u' with 2u' = 2 sqrt(2/pi) (1 + 3 * 0.044715 x^2). */
struct gelu_gradient {
    enum { inputs = 2 };
    __device__ float operator()(float x, float dy) const {
        float s = gate(x);
        return dy * (s + x * s * (1.0f - s) * (1.59576912f * (1.0f + 0.134145f * x * x)));
    }
};

} // namespace

void cuda_relu_forward(struct device_stream *s, size_t n, const float *x, float *y) {
    map(s, n, x, NULL, y, relu());
}

void cuda_relu_backward(struct device_stream *s, size_t n, const float *y, const float *dy, float *dx) {
    map(s, n, y, dy, dx, relu_gradient());
}

void cuda_gelu_forward(struct device_stream *s, size_t n, const float *x, float *y) {
    map(s, n, x, NULL, y, gelu());
}

void cuda_gelu_backward(struct device_stream *s, size_t n, const float *x, const float *dy, float *dx) {
    map(s, n, x, dy, dx, gelu_gradient());
}
