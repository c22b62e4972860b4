/* The registries as text: for `lagoon help`, and for docs/configuration.md. */
#ifndef LAGOON_CLI_REGISTRIES_H
#define LAGOON_CLI_REGISTRIES_H

#include <stdbool.h>
#include <stdio.h>

enum registries_form { REGISTRIES_HELP, REGISTRIES_MARKDOWN, REGISTRIES_MAN };

/* "models", "datasets", "updaters", "policies" or "modes"; false for any other topic. */
bool registries_print(const char *topic, enum registries_form form, FILE *out);
/* The topics, NULL-terminated. */
extern const char *const registries_topics[];

#endif
