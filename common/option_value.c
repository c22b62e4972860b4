/* The parsers behind the option types. */
#include "common/option_value.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/units.h"

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit byte_units[] = {
    {"", 1},
    {"B", 1},
    {"K", UINT64_C(1) << 10},
    {"KiB", UINT64_C(1) << 10},
    {"M", UINT64_C(1) << 20},
    {"MiB", UINT64_C(1) << 20},
    {"G", UINT64_C(1) << 30},
    {"GiB", UINT64_C(1) << 30},
    {"T", UINT64_C(1) << 40},
    {"TiB", UINT64_C(1) << 40},
    {"kB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", UINT64_C(1000000000000)},
    {NULL, 0},
};

static const struct unit duration_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0},
};

/* Digits, at most one point and a unit, spaces allowed between. Fractions need a unit above the smallest and are cut
 * to it; what does not fit 63 bits, and a fraction that would be cut to nothing, is refused. */
static enum lg_status parse_with_unit(const char *text, const struct unit *units, uint64_t *out) {
    uint64_t digits = 0, scale = 1;
    bool point = false, any = false;
    for (; (*text >= '0' && *text <= '9') || (*text == '.' && any && !point); text++) {
        if (*text == '.') {
            point = true;
            continue;
        }
        if (digits > (INT64_MAX - 9) / 10 || scale > INT64_MAX / 10)
            return LG_INVALID;
        digits = digits * 10 + (uint64_t)(*text - '0');
        scale *= point ? 10 : 1;
        any = true;
    }
    while (*text == ' ')
        text++;
    while (units->name && strcmp(units->name, text) != 0)
        units++;
    if (!any || !units->name || (point && units->factor == 1) || digits > INT64_MAX / units->factor)
        return LG_INVALID;
    *out = digits * units->factor / scale;
    return *out == 0 && digits != 0 ? LG_INVALID : LG_OK;
}

enum lg_status option_parse_bytes(const char *text, uint64_t *bytes) {
    return parse_with_unit(text, byte_units, bytes);
}

enum lg_status option_parse_duration(const char *text, int64_t *ms) {
    uint64_t value = 0;
    if (strcmp(text, "0") == 0) {
        *ms = 0;
        return LG_OK;
    }
    enum lg_status status = parse_with_unit(text, duration_units, &value);
    if (status == LG_OK)
        *ms = (int64_t)value;
    return status;
}

static enum lg_status parse_bool(const char *text, bool *out) {
    static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
    for (size_t i = 0; i < 3; i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *out = strcasecmp(text, yes[i]) == 0;
            return LG_OK;
        }
    }
    return LG_INVALID;
}

static enum lg_status parse_int(const char *text, int64_t *out) {
    char *end = NULL;
    const char *digits = text + (*text == '-' || *text == '+');
    if (*digits < '0' || *digits > '9')
        return LG_INVALID;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end)
        return LG_INVALID;
    *out = value;
    return LG_OK;
}

static enum lg_status parse_float(const char *text, double *out) {
    char *end = NULL;
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text))
        return LG_INVALID;
    double value = strtod(text, &end);
    if (*end || !isfinite(value))
        return LG_INVALID;
    *out = value;
    return LG_OK;
}

static bool in_range(const struct option *option, double value) {
    return (option->least == 0 && option->most == 0) || (value >= option->least && value <= option->most);
}

/* "5, 7" or "5,7"; empty text is an empty list. */
static enum lg_status parse_ints(const struct option *option, const char *text, struct option_ints *out) {
    out->count = 0;
    while (*text) {
        char word[32];
        text += strspn(text, " ");
        size_t length = strcspn(text, ", ");
        if (length >= sizeof word || out->count == OPTION_INTS_MAX)
            return LG_INVALID;
        memcpy(word, text, length);
        word[length] = '\0';
        int64_t value = 0;
        if (parse_int(word, &value) != LG_OK || !in_range(option, (double)value))
            return LG_INVALID;
        out->values[out->count++] = value;
        text += length;
        text += strspn(text, " ");
        if (*text && *text != ',')
            return LG_INVALID;
        if (*text == ',' && text[1 + strspn(text + 1, " ")] == '\0')
            return LG_INVALID;
        text += *text == ',';
    }
    return LG_OK;
}

static enum lg_status parse_text(const char *text, char *out) {
    size_t length = strlen(text);
    if (length >= OPTION_TEXT_BYTES)
        return LG_INVALID;
    memcpy(out, text, length + 1);
    return LG_OK;
}

/* True when `word` is one of the '|'-separated `choices`. */
static bool choice_is_listed(const char *choices, const char *word) {
    size_t length = strlen(word);
    for (const char *at = choices; length > 0; at++) {
        size_t bytes = strcspn(at, "|");
        if (bytes == length && memcmp(at, word, bytes) == 0)
            return true;
        at += bytes;
        if (!*at)
            break;
    }
    return false;
}

static enum lg_status check_range(const struct option *option, enum lg_status status, double value) {
    return status == LG_OK && !in_range(option, value) ? LG_INVALID : status;
}

enum lg_status option_value_parse(const struct option *option, const char *text, void *field) {
    enum lg_status status = LG_INVALID;
    switch (option->type) {
    case OPTION_BOOL:
        return parse_bool(text, field);
    case OPTION_INT:
        status = parse_int(text, field);
        return check_range(option, status, status == LG_OK ? (double)*(int64_t *)field : 0);
    case OPTION_FLOAT:
        status = parse_float(text, field);
        return check_range(option, status, status == LG_OK ? *(double *)field : 0);
    case OPTION_BYTES:
        status = option_parse_bytes(text, field);
        return check_range(option, status, status == LG_OK ? (double)*(uint64_t *)field : 0);
    case OPTION_DURATION:
        status = option_parse_duration(text, field);
        return check_range(option, status, status == LG_OK ? (double)*(int64_t *)field : 0);
    case OPTION_STRING:
        return parse_text(text, field);
    case OPTION_CHOICE:
        return choice_is_listed(option->choices, text) ? parse_text(text, field) : LG_INVALID;
    case OPTION_INTS:
        return parse_ints(option, text, field);
    }
    return status;
}

/* ---- saying what an option accepts */

static const char *number_text(const struct option *option, double value, char *text, size_t size) {
    if (option->type == OPTION_BYTES)
        return units_bytes_exact((uint64_t)value, text, size);
    if (option->type == OPTION_DURATION)
        return units_duration_exact((int64_t)value, text, size);
    snprintf(text, size, "%.12g", value);
    return text;
}

void option_value_range(const struct option *option, char *text, size_t size) {
    char least[UNITS_TEXT_BYTES], most[UNITS_TEXT_BYTES];
    const double huge = 9e15; /* beyond this a limit is a way of saying "none" */
    text[0] = '\0';
    if (option->least == 0 && option->most == 0)
        return;
    bool below = option->least > -huge, above = option->most < huge;
    if (below)
        number_text(option, option->least, least, sizeof least);
    if (above)
        number_text(option, option->most, most, sizeof most);
    if (below && above)
        snprintf(text, size, "from %s to %s", least, most);
    else if (below)
        snprintf(text, size, "of at least %s", least);
    else if (above)
        snprintf(text, size, "of at most %s", most);
}

void option_value_expected(const struct option *option, char *text, size_t size) {
    static const char *const nouns[] = {
        [OPTION_BOOL] = "true or false",
        [OPTION_INT] = "an integer",
        [OPTION_FLOAT] = "a number",
        [OPTION_BYTES] = "a size such as 4096, 64MiB or 2GiB",
        [OPTION_DURATION] = "a time such as 500ms, 5s or 2m",
        [OPTION_STRING] = "a text of at most 255 bytes",
        [OPTION_INTS] = "a list of at most 32 integers, each",
    };
    char range[3 * UNITS_TEXT_BYTES];
    if (option->type == OPTION_CHOICE) {
        snprintf(text, size, "one of %s", option->choices);
        return;
    }
    assert((size_t)option->type < sizeof nouns / sizeof nouns[0]);
    option_value_range(option, range, sizeof range);
    if (option->type == OPTION_INTS && !range[0])
        snprintf(text, size, "a list of at most %d integers", OPTION_INTS_MAX);
    else
        snprintf(text, size, "%s%s%s", nouns[option->type], range[0] ? " " : "", range);
}
