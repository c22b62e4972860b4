#include "worker/trainer_clip.h"

#include <math.h>
#include <string.h>

enum clip clip_parse(const char *name) {
    return strcmp(name, "global") == 0 ? CLIP_GLOBAL : strcmp(name, "tensor") == 0 ? CLIP_TENSOR : CLIP_NONE;
}

/* Four sums, so that the additions need not wait for each other. */
double clip_norm_of(const float *x, size_t n) {
    double sums[4] = {0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++)
            sums[j] += (double)x[i + j] * (double)x[i + j];
    for (; i < n; i++)
        sums[0] += (double)x[i] * (double)x[i];
    return sqrt(sums[0] + sums[1] + sums[2] + sums[3]);
}

double clip_to_norm(float *x, size_t n, double most) {
    double norm = clip_norm_of(x, n);
    if (!isfinite(norm) || norm <= most)
        return norm;
    float factor = (float)(most / norm);
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
    return norm;
}
