/* Numbers for people: "1.5 MiB", "2.3 s", "12,345". Each writes into `text` and returns it. */
#ifndef LAGOON_COMMON_UNITS_H
#define LAGOON_COMMON_UNITS_H

#include <stddef.h>
#include <stdint.h>

enum { UNITS_TEXT_BYTES = 32 };

/* "512 B", "1.5 MiB": at most three significant digits, binary units. */
char *units_bytes(uint64_t bytes, char *text, size_t size);
/* The same value without rounding, as option_parse_bytes reads it: "64MiB", "4097". */
char *units_bytes_exact(uint64_t bytes, char *text, size_t size);
/* "0 ms", "350 ms", "2.3 s", "4 min 5 s", "3 h 20 min", "2 d 3 h". */
char *units_duration(int64_t ms, char *text, size_t size);
/* The same value without rounding, as option_parse_duration reads it: "5s", "1500ms". */
char *units_duration_exact(int64_t ms, char *text, size_t size);
/* "12,345,678". */
char *units_count(uint64_t count, char *text, size_t size);
/* "950", "12.3k", "4.56M": three significant digits, decimal units; for rates. */
char *units_rate(double value, char *text, size_t size);

#endif
