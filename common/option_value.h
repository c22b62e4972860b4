/* One option's value: parsing it and saying what is accepted. Used by option.c and option_print.c only. */
#ifndef LAGOON_COMMON_OPTION_VALUE_H
#define LAGOON_COMMON_OPTION_VALUE_H

#include "common/option.h"

/* Parses `text` into the field the option's type names; LG_INVALID when it does not parse or is out of range. */
LG_MUST_CHECK enum lg_status option_value_parse(const struct option *option, const char *text, void *field);
/* "an integer from 1 to 65535": completes "must be ...". */
void option_value_expected(const struct option *option, char *text, size_t size);
/* "from 1 to 65535", "of at least 1" or "". */
void option_value_range(const struct option *option, char *text, size_t size);

#endif
