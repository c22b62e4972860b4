#include "worker/trainer_clip.h"

#include <string.h>

enum clip clip_parse(const char *name) {
    return strcmp(name, "global") == 0 ? CLIP_GLOBAL : strcmp(name, "tensor") == 0 ? CLIP_TENSOR : CLIP_NONE;
}
