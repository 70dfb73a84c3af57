/* Lines and their sequence numbers: reading the templates, writing a number into a line, which lines are expected. */
#define _GNU_SOURCE
#include "load.h"

#include <stdlib.h>
#include <string.h>

static char pairs[200];

__attribute__((constructor)) static void fill_pairs(void) {
    for (int i = 0; i < 100; i++) {
        pairs[2 * i] = (char)('0' + i / 10);
        pairs[2 * i + 1] = (char)('0' + i % 10);
    }
}

static void write_digits(char *to, int digits, uint64_t number) {
    for (int at = digits - 2; at >= 0; at -= 2) {
        memcpy(to + at, pairs + 2 * (number % 100), 2);
        number /= 100;
    }
}

void patch_line(char *line, size_t digits, size_t micros, uint64_t number) {
    write_digits(line + digits, SEQ_DIGITS, number);
    if (micros != NONE) write_digits(line + micros, MICRO_DIGITS, number);
}

static size_t little_endian(const uint8_t *bytes) {
    return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (size_t)bytes[3] << 24;
}

/* The file: for each variant its length and where its microseconds are (2^32 - 1: nowhere), four bytes each, little
   endian; then the bytes as they go over the wire. */
templates_t read_templates(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) die(path);
    templates_t all = {0};
    uint8_t head[8];
    while (fread(head, 1, sizeof head, file) == sizeof head) {
        size_t length = little_endian(head), micros = little_endian(head + 4);
        char *text = malloc(length + 1);
        if (text == NULL || fread(text, 1, length, file) != length) die("a template is cut");
        char *marker = memmem(text, length, SEQ_MARKER, strlen(SEQ_MARKER));
        if (marker == NULL || (size_t)(text + length - marker) < strlen(SEQ_MARKER) + SEQ_DIGITS) {
            die("a template has no sequence number");
        }
        all.text = reallocarray(all.text, all.count + 1, sizeof *all.text);
        all.length = reallocarray(all.length, all.count + 1, sizeof *all.length);
        all.digits = reallocarray(all.digits, all.count + 1, sizeof *all.digits);
        all.micros = reallocarray(all.micros, all.count + 1, sizeof *all.micros);
        all.micros[all.count] = micros + MICRO_DIGITS <= length ? micros : NONE;
        all.text[all.count] = text;
        all.length[all.count] = length;
        all.digits[all.count] = (size_t)(marker - text) + strlen(SEQ_MARKER);
        all.total += length;
        if (length > all.longest) all.longest = length;
        all.count++;
    }
    fclose(file);
    if (all.count == 0) die("no templates");
    return all;
}

keep_t make_keep(const char *pattern) {
    return (keep_t){pattern, strlen(pattern)};
}

int is_kept(keep_t keep, uint64_t number) {
    return keep.length == 0 || keep.pattern[number % keep.length] == '1';
}

uint64_t count_kept(keep_t keep, uint64_t lines) {
    if (keep.length == 0) return lines;
    uint64_t in_one = 0, in_rest = 0;
    for (size_t i = 0; i < keep.length; i++) in_one += keep.pattern[i] == '1';
    for (size_t i = 0; i < lines % keep.length; i++) in_rest += keep.pattern[i] == '1';
    return lines / keep.length * in_one + in_rest;
}
