/* Texts on the wire are UTF-8. */
#include "proto/wire_internal.h"

/* Bytes of the UTF-8 sequence at `at` (RFC 3629: no overlong forms, no surrogates, up to U+10FFFF); 0: not one. */
static size_t utf8_sequence(const unsigned char *at, size_t left) {
    static const struct {
        unsigned char first, last, bytes, second_first, second_last;
    } forms[] = {{0xC2, 0xDF, 2, 0x80, 0xBF}, {0xE0, 0xE0, 3, 0xA0, 0xBF}, {0xE1, 0xEC, 3, 0x80, 0xBF},
                 {0xED, 0xED, 3, 0x80, 0x9F}, {0xEE, 0xEF, 3, 0x80, 0xBF}, {0xF0, 0xF0, 4, 0x90, 0xBF},
                 {0xF1, 0xF3, 4, 0x80, 0xBF}, {0xF4, 0xF4, 4, 0x80, 0x8F}};
    if (at[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (at[0] < forms[i].first || at[0] > forms[i].last)
            continue;
        if (left < forms[i].bytes || at[1] < forms[i].second_first || at[1] > forms[i].second_last)
            return 0;
        for (size_t k = 2; k < forms[i].bytes; k++)
            if ((at[k] & 0xC0) != 0x80)
                return 0;
        return forms[i].bytes;
    }
    return 0;
}

size_t wire_text_sound(const void *text, size_t bytes) {
    const unsigned char *at = text;
    size_t sound = 0;
    while (sound < bytes) {
        size_t step = utf8_sequence(at + sound, bytes - sound);
        if (step == 0)
            return sound;
        sound += step;
    }
    return bytes;
}
