/* Convolutions, some images at a time: their windows become columns (im2col), and the rest is a matrix product. With
 * N = images * places, places = result height * result width:
 *
 *   columns [taps][N], taps = channels * kernel * kernel
 *   turned [filters][N] = weight [filters][taps] columns, from where it goes to y [images][filters][places] with the
 * bias
 *   dweight += turned dy columns^T;  dcolumns = weight^T turned dy, which col2im gathers to dx
 *
 * What products read is in the device's type, what they write here is f32. */
#include "gpu/cuda/cuda.cuh"

namespace {

#ifndef CUDA_CONV_ROOM_FLOATS
#define CUDA_CONV_ROOM_FLOATS (1 << 26) /* of columns and turned together; more only where one image needs more */
#endif
struct conv {
    size_t channels, height, width, filters, kernel, padding;
    size_t out_height, out_width, places, taps, image; /* image: numbers of an input */
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

/* Columns, then turned, each with room for floats. */
float *conv_room(struct cuda_stream *s, const struct conv *c) {
    return (float *)cuda_scratch(s, CUDA_ROOM_OP, "convolution",
                                 (c->taps + c->filters) * c->places * c->images * sizeof(float));
}

/* The window that begins at (top, left) of a plane, one tap after the other, n apart. */
template <class T>
CUDA_INLINE void window_to_column(const struct conv &c, size_t n, const T *plane, size_t top, size_t left, T *to) {
    for (size_t ky = 0; ky < c.kernel; ky++) {
        size_t row = top + ky;
        for (size_t kx = 0; kx < c.kernel; kx++, to += n) {
            size_t column = left + kx;
            T value = {};
            if (row < c.height && column < c.width)
                value = plane[row * c.width + column];
            *to = value;
        }
    }
}

/* x [images][channels][height][width] -> columns [taps][n], n = images * places. blockIdx.y: channel. */
template <class T> __global__ void im2col_kernel(struct conv c, size_t n, const T *x, T *columns) {
    for (size_t channel = blockIdx.y; channel < c.channels; channel += gridDim.y) {
        for (size_t i = cuda_thread(); i < n; i += cuda_threads()) {
            size_t place = i % c.places, image = i / c.places;
            size_t top = place / c.out_width - c.padding; /* wraps below zero: then too large */
            size_t left = place % c.out_width - c.padding;
            window_to_column(c, n, x + (image * c.channels + channel) * c.height * c.width, top, left,
                             columns + channel * c.kernel * c.kernel * n + i);
        }
    }
}

/* Element (image, channel, row, column) is in the columns of every tap (ky, kx), at result row + padding - ky and
 * column + padding - kx where there is one. */
template <class T>
__global__ void col2im_kernel(struct conv c, size_t n, size_t elements, const float *columns, T *dx) {
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
        narrowed(sum, &dx[i]);
    }
}

/* turned [filters][images * places] -> y [images][filters][places], plus bias [filters] unless NULL. */
template <class T>
__global__ void turn_back_kernel(struct conv c, size_t n, const float *turned, const float *bias, T *y) {
    for (size_t i = cuda_thread(); i < n * c.filters; i += cuda_threads()) {
        size_t place = i % c.places, line = i / c.places, filter = line % c.filters, image = line / c.filters;
        narrowed(turned[filter * n + image * c.places + place] + (bias ? bias[filter] : 0.0f), &y[i]);
    }
}

template <class T> __global__ void turn_kernel(struct conv c, size_t n, const T *dy, T *turned) {
    for (size_t i = cuda_thread(); i < n * c.filters; i += cuda_threads()) {
        size_t place = i % c.places, line = i / c.places, filter = line % c.filters, image = line / c.filters;
        turned[filter * n + image * c.places + place] = dy[i];
    }
}

/* partial [gridDim.y][filters]: sums of dy [batch][filters][places] over the places of a chunk's images. A block takes
 * a filter, a warp one image in CUDA_TILE_ROWS. */
template <class T>
__global__ void bias_gradient_kernel(struct conv c, size_t batch, size_t images_each, const T *dy, float *partial) {
    size_t filter = blockIdx.x, first = blockIdx.y * images_each;
    size_t last = first + images_each < batch ? first + images_each : batch;
    pack<1> sum = {};
    for (size_t image = first + threadIdx.y; image < last; image += CUDA_TILE_ROWS) {
        const T *map = dy + (image * c.filters + filter) * c.places;
#pragma unroll 4
        for (size_t place = threadIdx.x; place < c.places; place += CUDA_WARP)
            sum.v[0] += widened(map[place]);
    }
    sum = block_column_sum<1>(sum);
    if (threadIdx.y > 0) /* the whole warp */
        return;
    float total = warp_sum(sum.v[0]);
    if (threadIdx.x == 0)
        partial[blockIdx.y * c.filters + filter] = total;
}

template <class T> void im2col(struct cuda_stream *s, const struct conv *c, size_t n, const T *x, T *columns) {
    dim3 grid(cuda_spread(s, n, CUDA_BLOCK), (unsigned)(c->channels < cuda_grid_y_max ? c->channels : cuda_grid_y_max));
    CUDA_LAUNCH(s, im2col_kernel<T>, grid, CUDA_BLOCK, 0, *c, n, x, columns);
}

/* As products take it. */
template <class T> const struct activation *operand(const T *x) {
    return (const struct activation *)(const void *)x;
}

template <class T>
void convolve(struct cuda_stream *s, const struct conv *c, size_t batch, const T *x, const struct activation *weight,
              const float *bias, T *y, float *room) {
    uint32_t filters = (uint32_t)c->filters, taps = (uint32_t)c->taps;
    for (size_t at = 0; at < batch; at += c->images) {
        size_t count = batch - at < c->images ? batch - at : c->images, n = count * c->places;
        T *columns = (T *)(void *)room;
        float *turned = room + c->taps * n;
        im2col(s, c, n, x + at * c->image, columns);
        cuda_gemm_gradient(&s->base, false, false, filters, (uint32_t)n, taps, 1, weight, operand(columns), 0, turned);
        CUDA_LAUNCH(s, turn_back_kernel<T>, cuda_spread(s, n * filters, CUDA_BLOCK), CUDA_BLOCK, 0, *c, n, turned, bias,
                    y + at * filters * c->places);
    }
}

/* `count` images: dweight gets, or with `more` is added, their part; dx [count][image] unless NULL is overwritten. */
template <class T>
void images_backward(struct cuda_stream *s, const struct conv *c, size_t count, bool more, const T *x,
                     const struct activation *weight, const T *dy, T *dx, float *dweight, float *room) {
    size_t n = count * c->places;
    uint32_t filters = (uint32_t)c->filters, taps = (uint32_t)c->taps;
    T *columns = (T *)(void *)room, *turned = (T *)(void *)(room + c->taps * n);
    im2col(s, c, n, x, columns);
    CUDA_LAUNCH(s, turn_kernel<T>, cuda_spread(s, n * filters, CUDA_BLOCK), CUDA_BLOCK, 0, *c, n, dy, turned);
    cuda_gemm_gradient(&s->base, false, true, filters, taps, (uint32_t)n, 1, operand(turned), operand(columns),
                       more ? 1.0f : 0.0f, dweight);
    if (!dx)
        return;
    cuda_gemm_gradient(&s->base, true, false, taps, (uint32_t)n, filters, 1, weight, operand(turned), 0, room);
    size_t elements = count * c->image;
    CUDA_LAUNCH(s, col2im_kernel<T>, cuda_spread(s, elements, CUDA_BLOCK), CUDA_BLOCK, 0, *c, n, elements, room, dx);
}

/* dbias [filters]. The room of the products is free again: they come before in the stream. */
template <class T>
void bias_gradient(struct cuda_stream *s, const struct conv *c, size_t batch, const T *dy, float *dbias) {
    unsigned chunks = cuda_chunks(s, batch * CUDA_TILE_ROWS, (unsigned)c->filters); /* of 8 images at least */
    float *partial = dbias;
    if (chunks > 1)
        partial = (float *)cuda_scratch(s, CUDA_ROOM_OP, "convolution", chunks * c->filters * sizeof *partial);
    if (!partial)
        return;
    CUDA_LAUNCH(s, bias_gradient_kernel<T>, dim3((unsigned)c->filters, chunks), dim3(CUDA_WARP, CUDA_TILE_ROWS), 0, *c,
                batch, (batch + chunks - 1) / chunks, dy, partial);
    if (chunks > 1)
        cuda_sum_chunks(s, chunks, c->filters, c->filters, partial, dbias, NULL);
}

template <class T>
void convolve_backward(struct cuda_stream *s, const struct conv *c, size_t batch, const T *x,
                       const struct activation *weight, const T *dy, T *dx, float *dweight, float *dbias) {
    float *room = conv_room(s, c);
    for (size_t at = 0; room && at < batch; at += c->images) {
        size_t count = batch - at < c->images ? batch - at : c->images;
        images_backward(s, c, count, at > 0, x + at * c->image, weight, dy + at * c->filters * c->places,
                        dx ? dx + at * c->image : NULL, dweight, room);
    }
    if (dbias)
        bias_gradient(s, c, batch, dy, dbias);
}

} // namespace

void cuda_conv_forward(struct device_stream *base, const struct device_conv *shape, const struct activation *x,
                       const struct activation *weight, const float *bias, struct activation *y) {
    struct cuda_stream *s = cuda_enter(base);
    struct conv c = conv_of(shape);
    float *room = conv_is_empty(shape, &c) ? NULL : conv_room(s, &c);
    if (room)
        CUDA_BY_TYPE(s, convolve(s, &c, shape->batch, cuda_of<T>(x), weight, bias, cuda_of<T>(y), room));
}

void cuda_conv_backward(struct device_stream *base, const struct device_conv *shape, const struct activation *x,
                        const struct activation *weight, const struct activation *dy, struct activation *dx,
                        float *dweight, float *dbias) {
    struct cuda_stream *s = cuda_enter(base);
    struct conv c = conv_of(shape);
    if (!conv_is_empty(shape, &c)) {
        CUDA_BY_TYPE(s, convolve_backward(s, &c, shape->batch, cuda_of<T>(x), weight, cuda_of<T>(dy), cuda_of<T>(dx),
                                          dweight, dbias));
        return;
    }
    cuda_zero(base, c.filters * c.taps * sizeof *dweight, dweight);
    if (dbias)
        cuda_zero(base, c.filters * sizeof *dbias, dbias);
    if (dx)
        cuda_zero(base, shape->batch * c.image * base->device->activation_bytes, dx);
}
