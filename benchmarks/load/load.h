/* What the parts of the load generator share. Times are nanoseconds of CLOCK_MONOTONIC, CPU is nanoseconds. */
#ifndef LOAD_H
#define LOAD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define SEQ_MARKER "seq="
#define SEQ_DIGITS 10
#define MICRO_DIGITS 6
#define NONE SIZE_MAX
#define MOST_SAMPLES 3000

/* Lines that differ in numbers only: line `n` is variant `n % count` with `n` written behind its marker, and, where it
   has a time stamp with microseconds, these are `n` too, so that no time stamp comes twice within a million lines. */
typedef struct {
    size_t count;
    char **text;
    size_t *length;
    size_t *digits;    /* where the ten digits of the number are in it */
    size_t *micros;    /* where six digits of microseconds are, or NONE */
    size_t longest;
    size_t total;      /* bytes of all variants */
} templates_t;

templates_t read_templates(const char *path);
void patch_line(char *line, size_t digits, size_t micros, uint64_t number);

/* Whether the output should have line `n`: character `n % length` of a text of 0 and 1; empty: all. */
typedef struct {
    const char *pattern;
    size_t length;
} keep_t;

keep_t make_keep(const char *pattern);
int is_kept(keep_t keep, uint64_t number);
uint64_t count_kept(keep_t keep, uint64_t lines);

typedef struct {
    int port, connections, udp, paced, want_latency;
    uint64_t lines;
    double rate;                /* lines a second, of all connections together (paced) */
    int64_t burst_ns;           /* the shortest time between two bursts (paced) */
    double quiet, deadline;     /* seconds without growth until the rest counts as lost; seconds for the whole run */
    const char *templates, *watch, *counter;
    keep_t keep;
    pid_t pid;                  /* the server, for its CPU and memory */
} run_t;

/* What sender and watcher know of each other. */
typedef struct {
    const run_t *run;
    templates_t templates;
    int *sockets;
    int64_t *sent_at;           /* by sequence number, where latency is wanted */
    int64_t started, ended;
    _Atomic uint64_t sent;
    _Atomic int finished, failed;
    uint64_t late;              /* bursts that were cut because the generator itself was late (UDP) */
} sending_t;

int *connect_all(const run_t *run);
void *send_all(void *sending);

typedef struct {
    uint64_t lines, bytes;
    int64_t finished_at, cpu;   /* of the last growth; of the server's process tree until then */
    long samples[MOST_SAMPLES], sample_count;    /* KiB of RSS, every 100 ms */
    int64_t *latencies;
    uint64_t latency_count;
    const char *verdict;
} seen_t;

void watch(sending_t *sending, seen_t *seen, int64_t cpu_before);

int64_t now_ns(void);
void sleep_until(int64_t when);
int64_t cpu_of_tree(pid_t pid);
long rss_kib(pid_t pid, const char *which);
void wait_until_idle(pid_t pid);
void die(const char *what) __attribute__((noreturn));

int run_check(int argc, char **argv);
int run_sink(int argc, char **argv);

#endif
