/* Text broken at spaces, so that help fits a terminal. */
#ifndef LAGOON_COMMON_WRAP_H
#define LAGOON_COMMON_WRAP_H

#include <stdio.h>

enum { WRAP_WIDTH = 80 }; /* columns of the narrowest terminal that people use */

/* Prints the words of `text` in lines of at most WRAP_WIDTH columns. `column` is where the line under way stands;
 * further lines start at `indent`. A word longer than a line has one for itself. Ends with a line feed. */
void wrap_words(const char *text, int column, int indent, FILE *out);

/* Prints paragraphs: lines are joined and broken anew up to an empty line; lines that begin with a space stay. */
void wrap_paragraphs(const char *text, FILE *out);

#endif
