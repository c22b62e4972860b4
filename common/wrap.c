#include "common/wrap.h"

#include <stdbool.h>
#include <string.h>

/* Prints the words of text[0..length) and returns the column where the line ends. */
static int print_words(const char *text, size_t length, int column, int indent, FILE *out) {
    const char *end = text + length;
    bool first = true;
    while (text < end) {
        size_t spaces = strspn(text, " \n");
        text += spaces;
        if (text >= end)
            break;
        size_t room = (size_t)(end - text), word = strcspn(text, " \n");
        word = word < room ? word : room;
        if (!first && column + 1 + (int)word > WRAP_WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)word, text);
        column += (int)word;
        text += word;
        first = false;
    }
    return column;
}

void wrap_words(const char *text, int column, int indent, FILE *out) {
    print_words(text, strlen(text), column, indent, out);
    fputc('\n', out);
}

/* The bytes of `text` up to an empty line, a line that begins with a space, or the end; without the last '\n'. */
static size_t paragraph_length(const char *text) {
    size_t length = strcspn(text, "\n");
    while (text[length] && !strchr(" \n", text[length + 1]))
        length += 1 + strcspn(text + length + 1, "\n");
    return length;
}

void wrap_paragraphs(const char *text, FILE *out) {
    while (*text) {
        bool as_it_is = *text == ' ' || *text == '\n';
        size_t length = as_it_is ? strcspn(text, "\n") : paragraph_length(text);
        if (as_it_is)
            fprintf(out, "%.*s", (int)length, text);
        else
            print_words(text, length, 0, 0, out);
        fputc('\n', out);
        text += length + (text[length] == '\n');
    }
}
