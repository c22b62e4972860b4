/* Convolutions, some images at a time: their windows become columns (im2col), and the rest is a matrix product. With
 * N = images * places, places = result height * result width:
 *
 *   columns [taps][N], taps = channels * kernel * kernel
 *   turned [filters][N] = weight [filters][taps] columns, from where it goes to y [images][filters][places] with the
 * bias dweight += turned dy columns^T;  dcolumns = weight^T turned dy, which col2im gathers to dx */
#include "gpu/cuda/cuda.cuh"

namespace {

#ifndef CUDA_CONV_ROOM_FLOATS
#define CUDA_CONV_ROOM_FLOATS (1 << 26) /* of columns and turned together; more only where one image needs more */
#endif
enum { SUM_BLOCK = 512 };

struct conv {
    size_t channels, height, width, filters, kernel, padding;
    size_t out_height, out_width, places, taps, image; /* image: floats of an input */
    size_t images;                                     /* taken at a time */
};

struct conv conv_of(const struct device_conv *shape) {
    struct conv c = {};
    c.channels = shape->channels;
    c.height = shape->height;
    c.width = shape->width;
    c.filters = shape->filters;
    c.kernel = shape->kernel;
    c.padding = shape->padding;
    size_t height = c.height + 2 * c.padding + 1, width = c.width + 2 * c.padding + 1;
    c.out_height = height > c.kernel ? height - c.kernel : 0;
    c.out_width = width > c.kernel ? width - c.kernel : 0;
    c.places = c.out_height * c.out_width;
    c.taps = c.channels * c.kernel * c.kernel;
    c.image = c.channels * c.height * c.width;
    size_t each = (c.taps + c.filters) * c.places, most = each > 0 ? CUDA_CONV_ROOM_FLOATS / each : 1;
    c.images = most < 1 ? 1 : most < shape->batch ? most : shape->batch;
    return c;
}

bool conv_is_empty(const struct device_conv *shape, const struct conv *c) {
    return c->places == 0 || c->taps == 0 || c->filters == 0 || shape->batch == 0;
}

/* Columns, then turned. */
float *conv_room(struct cuda_stream *s, const struct conv *c) {
    return (float *)cuda_scratch(s, CUDA_ROOM_OP, "convolution",
                                 (c->taps + c->filters) * c->places * c->images * sizeof(float));
}

/* x [images][channels][height][width] -> columns [taps][n], n = images * places. blockIdx.y: tap. */
__global__ void im2col_kernel(struct conv c, size_t n, const float *x, float *columns) {
    for (size_t tap = blockIdx.y; tap < c.taps; tap += gridDim.y) {
        size_t kx = tap % c.kernel, ky = tap / c.kernel % c.kernel, channel = tap / c.kernel / c.kernel;
        for (size_t i = cuda_thread(); i < n; i += cuda_threads()) {
            size_t place = i % c.places, image = i / c.places;
            size_t row = place / c.out_width + ky - c.padding; /* wraps below zero: then too large */
            size_t column = place % c.out_width + kx - c.padding;
            float value = 0;
            if (row < c.height && column < c.width)
                value = x[((image * c.channels + channel) * c.height + row) * c.width + column];
            columns[tap * n + i] = value;
        }
    }
}

/* Element (image, channel, row, column) is in the columns of every tap (ky, kx), at result row + padding - ky and
 * column + padding - kx where there is one. */
__global__ void col2im_kernel(struct conv c, size_t n, size_t elements, const float *columns, float *dx) {
    for (size_t i = cuda_thread(); i < elements; i += cuda_threads()) {
        size_t column = i % c.width, line = i / c.width, row = line % c.height, plane = line / c.height;
        size_t channel = plane % c.channels, image = plane / c.channels;
        float sum = 0;
        for (size_t ky = 0; ky < c.kernel; ky++) {
            size_t out_row = row + c.padding - ky; /* wraps below zero: then too large */
            for (size_t kx = 0; kx < c.kernel && out_row < c.out_height; kx++) {
                size_t out_column = column + c.padding - kx;
                size_t tap = (channel * c.kernel + ky) * c.kernel + kx;
                if (out_column < c.out_width)
                    sum += columns[tap * n + image * c.places + out_row * c.out_width + out_column];
            }
        }
        dx[i] = sum;
    }
}

/* turned [filters][images * places] -> y [images][filters][places], plus bias [filters] unless NULL. */
__global__ void turn_back_kernel(struct conv c, size_t n, const float *turned, const float *bias, float *y) {
    for (size_t i = cuda_thread(); i < n * c.filters; i += cuda_threads()) {
        size_t place = i % c.places, line = i / c.places, filter = line % c.filters, image = line / c.filters;
        y[i] = turned[filter * n + image * c.places + place] + (bias ? bias[filter] : 0.0f);
    }
}

__global__ void turn_kernel(struct conv c, size_t n, const float *dy, float *turned) {
    for (size_t i = cuda_thread(); i < n * c.filters; i += cuda_threads()) {
        size_t place = i % c.places, line = i / c.places, filter = line % c.filters, image = line / c.filters;
        turned[filter * n + image * c.places + place] = dy[i];
    }
}

/* dbias[filter] = sum of dy [batch][filters][places] over images and places; a block takes a filter. */
__global__ void bias_gradient_kernel(struct conv c, size_t batch, const float *dy, float *dbias) {
    __shared__ float part[SUM_BLOCK];
    size_t filter = blockIdx.x;
    float sum = 0;
    for (size_t i = threadIdx.x; i < batch * c.places; i += SUM_BLOCK)
        sum += dy[(i / c.places * c.filters + filter) * c.places + i % c.places];
    part[threadIdx.x] = sum;
    __syncthreads();
    for (unsigned half = SUM_BLOCK / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            part[threadIdx.x] += part[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0)
        dbias[filter] = part[0];
}

void im2col(struct cuda_stream *s, const struct conv *c, size_t n, const float *x, float *columns) {
    dim3 grid(cuda_spread(s, n, CUDA_BLOCK), (unsigned)(c->taps < cuda_grid_y_max ? c->taps : cuda_grid_y_max));
    CUDA_LAUNCH(s, im2col_kernel, grid, CUDA_BLOCK, 0, *c, n, x, columns);
}

/* `count` images: dweight gets, or with `more` is added, their part; dx [count][image] unless NULL is overwritten. */
void images_backward(struct cuda_stream *s, const struct conv *c, size_t count, bool more, const float *x,
                     const float *weight, const float *dy, float *dx, float *dweight, float *room) {
    size_t n = count * c->places;
    uint32_t filters = (uint32_t)c->filters, taps = (uint32_t)c->taps;
    float *columns = room, *turned = room + c->taps * n;
    im2col(s, c, n, x, columns);
    CUDA_LAUNCH(s, turn_kernel, cuda_spread(s, n * filters, CUDA_BLOCK), CUDA_BLOCK, 0, *c, n, dy, turned);
    cuda_gemm(&s->base, false, true, filters, taps, (uint32_t)n, 1, turned, columns, more ? 1.0f : 0.0f, dweight);
    if (!dx)
        return;
    cuda_gemm(&s->base, true, false, taps, (uint32_t)n, filters, 1, weight, turned, 0, columns);
    size_t elements = count * c->image;
    CUDA_LAUNCH(s, col2im_kernel, cuda_spread(s, elements, CUDA_BLOCK), CUDA_BLOCK, 0, *c, n, elements, columns, dx);
}

} // namespace

void cuda_conv_forward(struct device_stream *base, const struct device_conv *shape, const float *x, const float *weight,
                       const float *bias, float *y) {
    struct cuda_stream *s = cuda_enter(base);
    struct conv c = conv_of(shape);
    float *columns = conv_is_empty(shape, &c) ? NULL : conv_room(s, &c);
    for (size_t at = 0; columns && at < shape->batch; at += c.images) {
        size_t count = shape->batch - at < c.images ? shape->batch - at : c.images, n = count * c.places;
        float *turned = columns + c.taps * n;
        im2col(s, &c, n, x + at * c.image, columns);
        cuda_gemm(base, false, false, shape->filters, (uint32_t)n, (uint32_t)c.taps, 1, weight, columns, 0, turned);
        CUDA_LAUNCH(s, turn_back_kernel, cuda_spread(s, n * c.filters, CUDA_BLOCK), CUDA_BLOCK, 0, c, n, turned, bias,
                    y + at * c.filters * c.places);
    }
}

void cuda_conv_backward(struct device_stream *base, const struct device_conv *shape, const float *x,
                        const float *weight, const float *dy, float *dx, float *dweight, float *dbias) {
    struct cuda_stream *s = cuda_enter(base);
    struct conv c = conv_of(shape);
    if (conv_is_empty(shape, &c)) {
        cuda_fill(base, c.filters * c.taps, 0, dweight);
        if (dbias)
            cuda_fill(base, c.filters, 0, dbias);
        if (dx)
            cuda_fill(base, shape->batch * c.image, 0, dx);
        return;
    }
    float *room = conv_room(s, &c);
    for (size_t at = 0; room && at < shape->batch; at += c.images) {
        size_t count = shape->batch - at < c.images ? shape->batch - at : c.images;
        images_backward(s, &c, count, at > 0, x + at * c.image, weight, dy + at * c.filters * c.places,
                        dx ? dx + at * c.image : NULL, dweight, room);
    }
    if (dbias)
        CUDA_LAUNCH(s, bias_gradient_kernel, (unsigned)c.filters, SUM_BLOCK, 0, c, shape->batch, dy, dbias);
}
