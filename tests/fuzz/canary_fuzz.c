/* Fails on the six bytes "lagoon": a fuzzing run that does not find them in its time is broken itself. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static const char word[] = "lagoon";
    size_t same = 0;
    while (same < size && word[same] && bytes[same] == (uint8_t)word[same])
        same++;
    if (word[same] == '\0') {
        fprintf(stderr, "the canary is found\n");
        abort();
    }
    return 0;
}
