/* Digits drawn with strokes: the dataset that needs no download.
 *
 * A digit is a few strokes through control points in the unit square (x right, y down). A sample moves the points a
 * little, bends strokes of more than two points into Catmull-Rom curves, maps them through a random affine
 * transformation, draws them with a round pen of random width and brightness, and adds stray strokes and noise.
 * Everything comes from (seed, split, epoch, index), so a sample is the same whenever it is asked for. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "worker/dataset.h"
#include "worker/datasets/readers.h"

enum {
    SIDE = 28,
    PIXELS = SIDE * SIDE,
    DIGITS = 10,
    POINTS_MAX = 14,
    STEPS = 4, /* straight pieces per span of a curve */
};

struct point {
    float x, y;
};

/* Strokes name points by letter; a space ends a stroke. Two points make a straight line, more a curve. */
struct shape {
    int digit;
    const char *strokes;
    struct point points[POINTS_MAX];
};

static const struct shape shapes[] = {
    {0,
     "abcdefgha",
     {{.50f, .05f}, {.24f, .16f}, {.13f, .48f}, {.22f, .82f}, {.50f, .95f}, {.77f, .83f}, {.87f, .50f}, {.77f, .17f}}},
    {0, "abcdefg", {{.56f, .07f}, {.30f, .22f}, {.22f, .55f}, {.38f, .92f}, {.66f, .80f}, {.76f, .42f}, {.50f, .06f}}},
    {1, "ab", {{.50f, .04f}, {.50f, .96f}}},
    {1, "ab bc", {{.30f, .26f}, {.54f, .04f}, {.54f, .96f}}},
    {1, "ab bc de", {{.30f, .24f}, {.52f, .05f}, {.52f, .94f}, {.26f, .94f}, {.78f, .94f}}},
    {2,
     "abcdef fg",
     {{.18f, .27f}, {.32f, .08f}, {.58f, .05f}, {.79f, .24f}, {.62f, .56f}, {.15f, .94f}, {.88f, .94f}}},
    {2,
     "abcdefghi",
     {{.20f, .22f},
      {.46f, .05f},
      {.76f, .20f},
      {.66f, .52f},
      {.34f, .88f},
      {.16f, .86f},
      {.30f, .76f},
      {.60f, .92f},
      {.90f, .88f}}},
    {3,
     "abcde efghi",
     {{.18f, .14f},
      {.46f, .04f},
      {.74f, .16f},
      {.70f, .38f},
      {.42f, .48f},
      {.74f, .58f},
      {.82f, .78f},
      {.56f, .95f},
      {.16f, .87f}}},
    {3, "ab bc cdef", {{.18f, .06f}, {.80f, .06f}, {.46f, .42f}, {.78f, .54f}, {.72f, .88f}, {.16f, .90f}}},
    {4, "ab bc de", {{.60f, .04f}, {.12f, .66f}, {.90f, .66f}, {.66f, .40f}, {.66f, .97f}}},
    {4, "abc de", {{.20f, .05f}, {.20f, .50f}, {.78f, .50f}, {.74f, .05f}, {.70f, .96f}}},
    {4, "ab bc ad", {{.62f, .04f}, {.14f, .64f}, {.88f, .64f}, {.58f, .97f}}},
    {5,
     "ab bc cdefg",
     {{.80f, .06f}, {.28f, .06f}, {.22f, .44f}, {.54f, .38f}, {.82f, .62f}, {.64f, .92f}, {.16f, .88f}}},
    {5, "ab bcdef", {{.78f, .08f}, {.30f, .10f}, {.28f, .42f}, {.74f, .52f}, {.72f, .86f}, {.20f, .94f}}},
    {6,
     "abcdefghi",
     {{.70f, .06f},
      {.38f, .24f},
      {.20f, .56f},
      {.24f, .84f},
      {.50f, .95f},
      {.78f, .80f},
      {.72f, .56f},
      {.46f, .50f},
      {.22f, .68f}}},
    {6, "abcdefg", {{.46f, .04f}, {.24f, .48f}, {.28f, .88f}, {.62f, .94f}, {.74f, .70f}, {.52f, .56f}, {.26f, .76f}}},
    {7, "ab bc", {{.14f, .08f}, {.86f, .08f}, {.40f, .95f}}},
    {7, "ab bc de", {{.16f, .08f}, {.84f, .08f}, {.42f, .95f}, {.36f, .50f}, {.78f, .50f}}},
    {7, "ab bcd", {{.16f, .12f}, {.84f, .08f}, {.56f, .50f}, {.50f, .96f}}},
    {8,
     "abcdefghijkla",
     {{.50f, .47f},
      {.25f, .33f},
      {.27f, .13f},
      {.50f, .04f},
      {.73f, .13f},
      {.75f, .33f},
      {.50f, .47f},
      {.21f, .66f},
      {.25f, .87f},
      {.50f, .96f},
      {.75f, .87f},
      {.79f, .66f}}},
    {8,
     "abcdefgh",
     {{.74f, .12f}, {.36f, .06f}, {.30f, .32f}, {.68f, .62f}, {.66f, .92f}, {.30f, .90f}, {.36f, .58f}, {.78f, .10f}}},
    {9,
     "abcdefg gh",
     {{.78f, .22f}, {.54f, .05f}, {.26f, .16f}, {.24f, .40f}, {.48f, .52f}, {.72f, .40f}, {.78f, .20f}, {.70f, .96f}}},
    {9,
     "abcdefghi",
     {{.76f, .28f},
      {.56f, .48f},
      {.28f, .44f},
      {.22f, .20f},
      {.46f, .05f},
      {.74f, .16f},
      {.80f, .44f},
      {.70f, .78f},
      {.36f, .95f}}},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

struct glyphs_options {
    int64_t train_samples, test_samples, seed;
    double noise;
    bool fresh;
};

#define ENTRY(key_, type_, field_, ...)                                                                                \
    { .key = key_, .type = type_, .offset = offsetof(struct glyphs_options, field_), __VA_ARGS__ }
static const struct option options[] = {
    ENTRY("train_samples", OPTION_INT, train_samples, .fallback = "20000", .least = 1, .most = 1e9, .unit = "samples",
          .help = "training digits per epoch"),
    ENTRY("test_samples", OPTION_INT, test_samples, .fallback = "2000", .least = 0, .most = 1e9, .unit = "samples",
          .help = "digits to evaluate on"),
    ENTRY("seed", OPTION_INT, seed, .fallback = "1", .least = 0, .most = 9007199254740992.0,
          .help = "every digit is drawn from it"),
    ENTRY("noise", OPTION_FLOAT, noise, .fallback = "0.12", .least = 0, .most = 1,
          .help = "standard deviation of the noise on each pixel, of a full stroke's brightness"),
    ENTRY("fresh", OPTION_BOOL, fresh, .fallback = "true", .help = "draw new distortions in every epoch"),
};
#undef ENTRY

static const struct option_table option_table = {
    .name = "dataset glyphs",
    .summary = "digits drawn on the fly, 28x28; needs no files",
    .options = options,
    .count = sizeof options / sizeof options[0],
    .config_bytes = sizeof(struct glyphs_options),
};

struct glyphs_dataset {
    struct dataset base;
    struct glyphs_options options;
    int first_shape[DIGITS + 1]; /* shapes of digit d: first_shape[d] .. first_shape[d + 1] - 1 */
};

/* ---- drawing */

static float between(struct random *random, float low, float high) {
    return low + (high - low) * random_float(random);
}

/* Near a standard normal (the sum of four uniforms), from one draw and without libm. */
static float noise_value(struct random *random) {
    uint64_t bits = random_u64(random);
    int32_t sum = (int32_t)((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48));
    return (float)(sum - 2 * 0xffff) * (1.7320508f / 65535.0f);
}

/* Squared distance of each pixel's centre to the nearest stroke, in pixels. */
struct canvas {
    float distance2[PIXELS];
    float reach; /* pixels further away than this stay untouched */
};

static void canvas_clear(struct canvas *canvas, float reach) {
    for (int i = 0; i < PIXELS; i++)
        canvas->distance2[i] = 1e9f;
    canvas->reach = reach;
}

static int pixel_clamp(float value) {
    return value < 0 ? 0 : value > SIDE - 1 ? SIDE - 1 : (int)value;
}

/* A straight piece from a to b in pixel coordinates (pixel centres are whole numbers). */
static void canvas_line(struct canvas *canvas, struct point a, struct point b) {
    float dx = b.x - a.x, dy = b.y - a.y;
    float scale = 1.0f / (dx * dx + dy * dy + 1e-6f);
    int left = pixel_clamp(fminf(a.x, b.x) - canvas->reach + 1), right = pixel_clamp(fmaxf(a.x, b.x) + canvas->reach);
    int top = pixel_clamp(fminf(a.y, b.y) - canvas->reach + 1), bottom = pixel_clamp(fmaxf(a.y, b.y) + canvas->reach);
    for (int y = top; y <= bottom; y++) {
        float *row = canvas->distance2 + y * SIDE;
        float py = (float)y - a.y;
        for (int x = left; x <= right; x++) {
            float px = (float)x - a.x;
            float along = (px * dx + py * dy) * scale;
            along = along < 0 ? 0 : along;
            along = along > 1 ? 1 : along;
            float ex = px - along * dx, ey = py - along * dy;
            float distance2 = ex * ex + ey * ey;
            row[x] = distance2 < row[x] ? distance2 : row[x];
        }
    }
}

/* Catmull-Rom between b and c at t in 0..1. */
static struct point curve_at(struct point a, struct point b, struct point c, struct point d, float t) {
    float t2 = t * t, t3 = t2 * t;
    float wa = -0.5f * t3 + t2 - 0.5f * t, wb = 1.5f * t3 - 2.5f * t2 + 1;
    float wc = -1.5f * t3 + 2 * t2 + 0.5f * t, wd = 0.5f * t3 - 0.5f * t2;
    return (struct point){wa * a.x + wb * b.x + wc * c.x + wd * d.x, wa * a.y + wb * b.y + wc * c.y + wd * d.y};
}

/* One stroke of `count` letters; a stroke that ends where it began is closed smoothly. */
static void canvas_stroke(struct canvas *canvas, const struct point *points, const char *letters, int count) {
    bool closed = letters[0] == letters[count - 1];
    for (int i = 0; i + 1 < count; i++) {
        struct point b = points[letters[i] - 'a'], c = points[letters[i + 1] - 'a'];
        if (count == 2) {
            canvas_line(canvas, b, c);
            continue;
        }
        struct point a = i > 0 ? points[letters[i - 1] - 'a'] : closed ? points[letters[count - 2] - 'a'] : b;
        struct point d = i + 2 < count ? points[letters[i + 2] - 'a'] : closed ? points[letters[1] - 'a'] : c;
        struct point from = b;
        for (int step = 1; step <= STEPS; step++) {
            struct point to = curve_at(a, b, c, d, (float)step / STEPS);
            canvas_line(canvas, from, to);
            from = to;
        }
    }
}

static void canvas_strokes(struct canvas *canvas, const struct point *points, const char *strokes) {
    while (*strokes) {
        int count = (int)strcspn(strokes, " ");
        canvas_stroke(canvas, points, strokes, count);
        strokes += count + (strokes[count] == ' ');
    }
}

/* Moves the points of `shape` a little, then rotates, shears, scales and shifts them into the image. */
static void place(struct random *random, const struct shape *shape, struct point out[POINTS_MAX]) {
    float angle = between(random, -0.35f, 0.35f), shear = between(random, -0.35f, 0.35f);
    float width = between(random, 11.0f, 19.0f), height = between(random, 15.0f, 22.0f);
    float x0 = (SIDE - 1) * 0.5f + between(random, -2.5f, 2.5f), y0 = (SIDE - 1) * 0.5f + between(random, -2.5f, 2.5f);
    float cosine = 1 - angle * angle * 0.5f, sine = angle - angle * angle * angle / 6; /* close enough up to 0.35 */
    for (int i = 0; i < POINTS_MAX; i++) {
        float x = (shape->points[i].x - 0.5f + 0.036f * noise_value(random)) * width;
        float y = (shape->points[i].y - 0.5f + 0.036f * noise_value(random)) * height;
        x -= shear * y;
        out[i] = (struct point){x0 + cosine * x - sine * y, y0 + sine * x + cosine * y};
    }
}

/* Adds what the canvas holds to the image: full inside the pen's radius, fading over one pixel. */
static void ink(const struct canvas *canvas, float radius, float brightness, float *image) {
    for (int i = 0; i < PIXELS; i++) {
        float cover = radius + 0.5f - sqrtf(canvas->distance2[i]);
        cover = cover < 0 ? 0 : cover;
        cover = (cover > 1 ? 1 : cover) * brightness;
        image[i] = cover > image[i] ? cover : image[i];
    }
}

/* Short strokes that belong to no digit. */
static void draw_stray(struct random *random, struct canvas *canvas, float *image) {
    int count = (int)random_below(random, 3);
    if (count == 0)
        return;
    canvas_clear(canvas, 2.0f);
    for (int i = 0; i < count; i++) {
        struct point from = {between(random, 0, SIDE - 1), between(random, 0, SIDE - 1)};
        struct point to = {from.x + between(random, -5, 5), from.y + between(random, -5, 5)};
        canvas_line(canvas, from, to);
    }
    ink(canvas, between(random, 0.3f, 0.9f), between(random, 0.3f, 0.8f), image);
}

/* Features have about mean 0 and deviation 1: these are the mean and deviation of the image before. */
static const float image_mean = 0.12f, image_deviation = 0.22f;

static void draw(struct random *random, const struct shape *shape, float noise, float image[PIXELS]) {
    struct canvas canvas;
    struct point points[POINTS_MAX];
    float radius = between(random, 0.6f, 1.6f), brightness = between(random, 0.55f, 1.0f);
    memset(image, 0, PIXELS * sizeof *image);
    place(random, shape, points);
    canvas_clear(&canvas, radius + 1);
    canvas_strokes(&canvas, points, shape->strokes);
    ink(&canvas, radius, brightness, image);
    draw_stray(random, &canvas, image);
    for (int i = 0; i < PIXELS; i++) {
        float value = image[i] + noise * noise_value(random);
        value = value < 0 ? 0 : value > 1 ? 1 : value;
        image[i] = (value - image_mean) * (1 / image_deviation);
    }
}

/* ---- the dataset */

static enum lg_status glyphs_open(const void *option_values, struct dataset **out, struct lg_error *error) {
    struct glyphs_dataset *data = calloc(1, sizeof *data);
    if (!data)
        return lg_fail(error, LG_NO_MEMORY, "no memory for dataset \"glyphs\"");
    data->options = *(const struct glyphs_options *)option_values;
    for (int digit = 0, at = 0; digit <= DIGITS; digit++) {
        data->first_shape[digit] = at;
        while (at < SHAPES && shapes[at].digit == digit)
            at++;
    }
    const struct glyphs_options *config = &data->options;
    uint64_t print = fingerprint_bytes(0, "glyphs1", 7);
    print = fingerprint_number(print, (double)config->train_samples);
    print = fingerprint_number(print, (double)config->test_samples);
    print = fingerprint_number(print, (double)config->seed);
    print = fingerprint_number(print, config->noise);
    data->base.kind = &dataset_glyphs;
    data->base.info = (struct dataset_info){
        .form = DATASET_DENSE,
        .train_samples = (uint64_t)config->train_samples,
        .test_samples = (uint64_t)config->test_samples,
        .width = PIXELS,
        .channels = 1,
        .height = SIDE,
        .image_width = SIDE,
        .classes = DIGITS,
        .fingerprint = fingerprint_number(print, config->fresh),
    };
    *out = &data->base;
    return LG_OK;
}

static void glyphs_close(struct dataset *dataset) {
    free(dataset);
}

static enum lg_status glyphs_read(struct dataset *dataset, enum dataset_split split, uint64_t epoch,
                                  const uint64_t *indices, uint32_t count, struct batch *batch,
                                  struct lg_error *error) {
    const struct glyphs_dataset *data = (const struct glyphs_dataset *)dataset;
    uint64_t seed = random_mix((uint64_t)data->options.seed, (uint64_t)split);
    uint64_t round = split == DATASET_TRAIN && data->options.fresh ? epoch : 0;
    enum lg_status status = batch_reserve_dense(batch, count, PIXELS, error);
    if (status != LG_OK)
        return status;
    for (uint32_t i = 0; i < count; i++) {
        struct random random;
        int digit = (int)(indices[i] % DIGITS); /* as many of each */
        random_init_stream(&random, seed, random_mix(round, indices[i]));
        int first = data->first_shape[digit], variants = data->first_shape[digit + 1] - first;
        const struct shape *shape = &shapes[first + (int)random_below(&random, (uint64_t)variants)];
        draw(&random, shape, (float)data->options.noise, batch->features + (size_t)i * PIXELS);
        batch->labels[i] = digit;
    }
    return LG_OK;
}

const struct dataset_kind dataset_glyphs = {
    .name = "glyphs",
    .summary = "digits drawn on the fly with random distortion and noise; needs no files",
    .options = &option_table,
    .open = glyphs_open,
    .read = glyphs_read,
    .close = glyphs_close,
};
