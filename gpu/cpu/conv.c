/* Convolutions, image by image: the windows of an image become columns (im2col) in a scratch buffer that stays in the
 * cache, and the rest is a matrix product.
 *
 *   columns [channels*kernel*kernel][places], places = result height * result width
 *   y [filters][places] = weight [filters][channels*kernel*kernel] columns
 *   dweight = dy columns^T;  dcolumns = weight^T dy, which col2im adds up to dx */
#include "gpu/cpu/cpu.h"

struct conv {
    struct cpu_device *device;
    struct device_conv shape;
    size_t out_height, out_width, places, taps; /* taps = channels * kernel * kernel */
    const float *x, *weight, *bias, *dy;
    float *y, *dx;
    float *partial[CPU_THREADS_MAX]; /* dweight [filters][taps], dbias [filters] of each thread */
};

/* The columns of result row `row` whose tap `tap` falls inside the image: [from, to), shifted by -padding. */
struct span {
    size_t from, to;
};

CPU_INLINE struct span span_inside(size_t out, size_t in, size_t tap, size_t padding) {
    size_t from = tap < padding ? padding - tap : 0;
    size_t to = in + padding > tap ? in + padding - tap : 0;
    from = from > out ? out : from;
    to = to > out ? out : to;
    return (struct span){from, to < from ? from : to};
}

CPU_BODY im2col_plane(const struct conv *c, const float *plane, size_t ky, size_t kx, float *column) {
    size_t width = c->shape.width, padding = c->shape.padding;
    struct span rows = span_inside(c->out_height, c->shape.height, ky, padding);
    struct span span = span_inside(c->out_width, width, kx, padding);
    for (size_t row = 0; row < c->out_height; row++, column += c->out_width) {
        if (row < rows.from || row >= rows.to) {
            memset(column, 0, c->out_width * sizeof *column);
            continue;
        }
        const float *line = plane + (row + ky - padding) * width;
        for (size_t i = 0; i < span.from; i++)
            column[i] = 0;
        cpu_copy(span.to - span.from, line + span.from + kx - padding, column + span.from);
        for (size_t i = span.to; i < c->out_width; i++)
            column[i] = 0;
    }
}

CPU_BODY col2im_plane(const struct conv *c, const float *column, size_t ky, size_t kx, float *plane) {
    size_t width = c->shape.width, padding = c->shape.padding;
    struct span rows = span_inside(c->out_height, c->shape.height, ky, padding);
    struct span span = span_inside(c->out_width, width, kx, padding);
    for (size_t row = rows.from; row < rows.to; row++) {
        const float *from = column + row * c->out_width;
        float *line = plane + (row + ky - padding) * width;
        for (size_t i = span.from; i < span.to; i++)
            line[i + kx - padding] += from[i];
    }
}

/* image [channels][height][width] -> columns [taps][places] */
CPU_BODY im2col_body(const struct conv *c, const float *image, float *columns) {
    size_t plane = (size_t)c->shape.height * c->shape.width, kernel = c->shape.kernel;
    for (size_t channel = 0; channel < c->shape.channels; channel++)
        for (size_t ky = 0; ky < kernel; ky++)
            for (size_t kx = 0; kx < kernel; kx++, columns += c->places)
                im2col_plane(c, image + channel * plane, ky, kx, columns);
}
CPU_VARIANTS(im2col, (const struct conv *c, const float *image, float *columns), (c, image, columns))

/* Overwrites image [channels][height][width] with the sums of columns [taps][places]. */
CPU_BODY col2im_body(const struct conv *c, const float *columns, float *image) {
    size_t plane = (size_t)c->shape.height * c->shape.width, kernel = c->shape.kernel;
    memset(image, 0, c->shape.channels * plane * sizeof *image);
    for (size_t channel = 0; channel < c->shape.channels; channel++)
        for (size_t ky = 0; ky < kernel; ky++)
            for (size_t kx = 0; kx < kernel; kx++, columns += c->places)
                col2im_plane(c, columns, ky, kx, image + channel * plane);
}
CPU_VARIANTS(col2im, (const struct conv *c, const float *columns, float *image), (c, columns, image))

static void conv_images(void *context, size_t first, size_t last, unsigned thread) {
    struct conv *c = context;
    size_t filters = c->shape.filters;
    size_t image = (size_t)c->shape.channels * c->shape.height * c->shape.width;
    float *columns = cpu_scratch_get(c->device, thread, c->taps * c->places);
    for (size_t i = first; columns && i < last; i++) {
        float *y = c->y + i * filters * c->places;
        im2col(c, c->x + i * image, columns);
        for (size_t f = 0; c->bias && f < filters; f++)
            for (size_t p = 0; p < c->places; p++)
                y[f * c->places + p] = c->bias[f];
        cpu_gemm_strided(false, false, filters, c->places, c->taps, 1, c->weight, c->taps, columns, c->places,
                         c->bias ? 1.0f : 0.0f, y, c->places);
    }
}

CPU_BODY plane_sum_body(size_t n, const float *x, float *total) {
    *total += cpu_sum(n, x);
}
CPU_VARIANTS(plane_sum, (size_t n, const float *x, float *total), (n, x, total))

static void conv_gradient_images(void *context, size_t first, size_t last, unsigned thread) {
    struct conv *c = context;
    size_t filters = c->shape.filters, taps = c->taps, places = c->places;
    size_t image = (size_t)c->shape.channels * c->shape.height * c->shape.width;
    float *columns = cpu_scratch_get(c->device, thread, taps * places + filters * (taps + 1));
    if (!columns)
        return;
    float *dweight = columns + taps * places, *dbias = dweight + filters * taps;
    c->partial[thread] = dweight;
    memset(dweight, 0, filters * (taps + 1) * sizeof *dweight);
    for (size_t i = first; i < last; i++) {
        const float *dy = c->dy + i * filters * places;
        im2col(c, c->x + i * image, columns);
        cpu_gemm_strided(false, true, filters, taps, places, 1, dy, places, columns, places, 1, dweight, taps);
        for (size_t f = 0; f < filters; f++)
            plane_sum(places, dy + f * places, &dbias[f]);
        if (c->dx) {
            cpu_gemm_strided(true, false, taps, places, filters, 1, c->weight, taps, dy, places, 0, columns, places);
            col2im(c, columns, c->dx + i * image);
        }
    }
}

/* False where the result is empty. */
static bool conv_prepare(struct conv *c, struct device_stream *s, const struct device_conv *shape) {
    c->device = cpu_of(s);
    c->shape = *shape;
    size_t height = (size_t)shape->height + 2 * shape->padding + 1,
           width = (size_t)shape->width + 2 * shape->padding + 1;
    c->out_height = height > shape->kernel ? height - shape->kernel : 0;
    c->out_width = width > shape->kernel ? width - shape->kernel : 0;
    c->places = c->out_height * c->out_width;
    c->taps = (size_t)shape->channels * shape->kernel * shape->kernel;
    return c->places && c->taps && shape->filters && shape->batch;
}

void cpu_conv_forward(struct device_stream *s, const struct device_conv *shape, const struct activation *x,
                      const struct activation *weight, const float *bias, struct activation *y) {
    struct conv c = {.x = cpu_in(x), .weight = cpu_in(weight), .bias = bias, .y = cpu_out(y)};
    if (conv_prepare(&c, s, shape))
        cpu_split(c.device, shape->batch, 1, 1, conv_images, &c);
}

void cpu_conv_backward(struct device_stream *s, const struct device_conv *shape, const struct activation *x,
                       const struct activation *weight, const struct activation *dy, struct activation *dx,
                       float *dweight, float *dbias) {
    struct conv c = {.x = cpu_in(x), .weight = cpu_in(weight), .dy = cpu_in(dy), .dx = cpu_out(dx)};
    if (conv_prepare(&c, s, shape))
        cpu_split(c.device, shape->batch, 1, 1, conv_gradient_images, &c);
    size_t weights = shape->filters * c.taps;
    cpu_fill(s, weights, 0, dweight);
    if (dbias)
        cpu_fill(s, shape->filters, 0, dbias);
    for (unsigned t = 0; t < s->device->threads; t++) {
        if (!c.partial[t])
            continue;
        cpu_axpy(s, weights, 1, c.partial[t], dweight);
        if (dbias)
            cpu_axpy(s, shape->filters, 1, c.partial[t] + weights, dbias);
    }
}
