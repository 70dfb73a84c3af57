/* The checker: reads a finished output and says what is missing, there twice, or was never sent. */
#define _GNU_SOURCE
#include "load.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The number in a line, or UINT64_MAX: ten digits behind the first marker. `hint` is where the last line had it. */
static uint64_t number_of(const char *line, size_t length, size_t *hint) {
    size_t marker = strlen(SEQ_MARKER);
    const char *at = line + *hint;
    /* A marker further on would do as well only where the first one is looked for. */
    if (*hint + marker + SEQ_DIGITS > length || memcmp(at, SEQ_MARKER, marker) != 0) {
        at = memmem(line, length, SEQ_MARKER, marker);
        if (at == NULL || (size_t)(line + length - at) < marker + SEQ_DIGITS) return UINT64_MAX;
        *hint = (size_t)(at - line);
    }
    uint64_t number = 0;
    for (int i = 0; i < SEQ_DIGITS; i++) {
        char digit = at[marker + (size_t)i];
        if (digit < '0' || digit > '9') return UINT64_MAX;
        number = number * 10 + (uint64_t)(digit - '0');
    }
    return number;
}

int run_check(int argc, char **argv) {
    static const struct option names[] = {
        {"file", 1, 0, 'f'}, {"lines", 1, 0, 'l'}, {"keep", 1, 0, 'k'}, {0, 0, 0, 0}};
    const char *path = NULL;
    uint64_t lines = 0;
    keep_t keep = make_keep("");
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (option == 'f') path = optarg;
        else if (option == 'l') lines = strtoull(optarg, NULL, 10);
        else if (option == 'k') keep = make_keep(optarg);
        else return 2;
    }
    int fd = path == NULL ? -1 : open(path, O_RDONLY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0) die(path == NULL ? "--file" : path);
    size_t size = (size_t)status.st_size;
    const char *text = size == 0 ? "" : mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (text == MAP_FAILED) die("mmap");
    uint8_t *seen = calloc(lines / 8 + 1, 1);
    uint64_t total = 0, found = 0, duplicates = 0, foreign = 0;
    size_t hint = 0;
    for (const char *line = text, *end = text + size; line < end; total++) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (stop == NULL) stop = end;
        uint64_t number = number_of(line, (size_t)(stop - line), &hint);
        if (number >= lines || !is_kept(keep, number)) {
            foreign++;
        } else if (seen[number / 8] & 1 << number % 8) {
            duplicates++;
        } else {
            seen[number / 8] |= (uint8_t)(1 << number % 8);
            found++;
        }
        line = stop + 1;
    }
    printf("{\"lines\": %lu, \"bytes\": %lu, \"missing\": %lu, \"duplicates\": %lu, \"foreign\": %lu, "
           "\"unfinished\": %s}\n",
           total, size, count_kept(keep, lines) - found, duplicates, foreign,
           size > 0 && text[size - 1] != '\n' ? "true" : "false");
    return 0;
}
