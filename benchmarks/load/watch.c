/* The watching side: when is the output complete, what did that cost the server, and how long was each line under way.

   While lines are under way only the size of the file is looked at: counting them would take the generator's core and
   the memory bus from the server. They are counted whenever the file has stood still for a moment. Where latency is
   wanted (few lines a second), each new line is looked at as it comes. */
#define _GNU_SOURCE
#include "load.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define POLL_NS 500000
#define LATENCY_POLL_NS 50000
#define STILL_NS 30000000
#define SAMPLE_NS 100000000
#define BUFFER (1 << 20)

typedef struct {
    int fd;
    off_t read;
    const volatile uint64_t *counter;   /* a sink that writes no lines counts here */
    char *buffer;
    size_t held;                        /* latency: bytes of an unfinished line */
} follower_t;

static void open_output(follower_t *follower, const run_t *run) {
    if (run->counter != NULL) {
        int fd = open(run->counter, O_RDONLY);
        if (fd < 0) die(run->counter);
        follower->counter = mmap(NULL, sizeof(uint64_t), PROT_READ, MAP_SHARED, fd, 0);
        if (follower->counter == MAP_FAILED) die("mmap");
        close(fd);
        return;
    }
    if (follower->fd < 0) follower->fd = open(run->watch, O_RDONLY);
}

static uint64_t size_of(follower_t *follower) {
    struct stat status;
    if (follower->counter != NULL) return *follower->counter;
    return follower->fd < 0 || fstat(follower->fd, &status) < 0 ? 0 : (uint64_t)status.st_size;
}

static void count_new(follower_t *follower, seen_t *seen) {
    if (follower->counter != NULL) {
        seen->lines = *follower->counter;
        return;
    }
    ssize_t got;
    while (follower->fd >= 0 && (got = pread(follower->fd, follower->buffer, BUFFER, follower->read)) > 0) {
        char *at = follower->buffer, *end = follower->buffer + got;
        while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
            seen->lines++;
            at++;
        }
        follower->read += got;
    }
    seen->bytes = (uint64_t)follower->read;
}

static void time_new(follower_t *follower, seen_t *seen, const sending_t *sending) {
    ssize_t got;
    char *buffer = follower->buffer;
    while (follower->fd >= 0 &&
           (got = pread(follower->fd, buffer + follower->held, BUFFER - follower->held, follower->read)) > 0) {
        int64_t now = now_ns();
        char *line = buffer, *end = buffer + follower->held + got, *stop;
        while ((stop = memchr(line, '\n', (size_t)(end - line))) != NULL) {
            char *marker = memmem(line, (size_t)(stop - line), SEQ_MARKER, strlen(SEQ_MARKER));
            if (marker != NULL) {
                uint64_t number = strtoull(marker + strlen(SEQ_MARKER), NULL, 10);
                if (number < sending->run->lines && seen->latency_count < sending->run->lines) {
                    seen->latencies[seen->latency_count++] = now - sending->sent_at[number];
                }
            }
            seen->lines++;
            line = stop + 1;
        }
        follower->held = (size_t)(end - line);
        memmove(buffer, line, follower->held);
        follower->read += got;
    }
    seen->bytes = (uint64_t)follower->read;
}

void watch(sending_t *sending, seen_t *seen, int64_t cpu_before) {
    const run_t *run = sending->run;
    uint64_t expected = count_kept(run->keep, run->lines), size = 0;
    follower_t follower = {.fd = -1, .buffer = malloc(BUFFER)};
    int64_t began = now_ns(), grown = began, sampled = 0;
    int64_t poll = run->want_latency ? LATENCY_POLL_NS : POLL_NS;
    int counted = 0;
    seen->verdict = "complete";
    seen->finished_at = began;
    prctl(PR_SET_TIMERSLACK, 1);
    if (run->want_latency) seen->latencies = calloc(run->lines, sizeof *seen->latencies);
    for (;;) {
        if (follower.fd < 0 && follower.counter == NULL) open_output(&follower, run);
        uint64_t new_size = size_of(&follower);
        int64_t now = now_ns();
        if (new_size != size) {
            size = new_size;
            grown = now;
            counted = 0;
            if (run->want_latency) time_new(&follower, seen, sending);
        } else if (!counted && now - grown > STILL_NS) {
            int64_t cpu = cpu_of_tree(run->pid);
            if (!run->want_latency) count_new(&follower, seen);
            seen->finished_at = grown;
            seen->cpu = cpu - cpu_before;
            counted = 1;
            if (seen->lines >= expected && sending->finished) return;
        }
        if (now - sampled > SAMPLE_NS && seen->sample_count < MOST_SAMPLES) {
            seen->samples[seen->sample_count++] = rss_kib(run->pid, "VmRSS");
            sampled = now;
        }
        if (sending->failed) {
            seen->verdict = "the connection broke";
            return;
        }
        if (seen->lines >= expected && counted && sending->finished) return;
        int64_t since = grown > sending->ended ? grown : sending->ended;
        if (sending->finished && counted && (double)(now - since) / 1e9 > run->quiet) {
            seen->verdict = "incomplete";
            return;
        }
        if ((double)(now - began) / 1e9 > run->deadline) {
            seen->verdict = "deadline";
            return;
        }
        sleep_until(now + poll);
    }
}
