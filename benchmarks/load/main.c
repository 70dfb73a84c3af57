/* The load generator of the benchmarks: `load send` sends lines to a server and watches its output, `load check` reads
   a finished output, `load sink` is a server that does nothing. Each prints one JSON object. See benchmarks/load.py. */
#define _GNU_SOURCE
#include "load.h"

#include <getopt.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_latencies(seen_t *seen) {
    static const struct { const char *name; double share; } marks[] = {
        {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1.0}};
    qsort(seen->latencies, seen->latency_count, sizeof *seen->latencies, by_size);
    printf(", \"latency_us\": {");
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        uint64_t at = (uint64_t)(marks[i].share * (double)(seen->latency_count - 1));
        printf("%s\"%s\": %.1f", i ? ", " : "", marks[i].name, (double)seen->latencies[at] / 1e3);
    }
    printf("}");
}

static void read_options(run_t *run, int argc, char **argv) {
    static const struct option names[] = {
        {"port", 1, 0, 'p'},      {"connections", 1, 0, 'c'}, {"lines", 1, 0, 'l'},    {"templates", 1, 0, 't'},
        {"udp", 0, 0, 'u'},       {"rate", 1, 0, 'r'},        {"burst-us", 1, 0, 'b'}, {"latency", 0, 0, 'y'},
        {"watch", 1, 0, 'w'},     {"counter", 1, 0, 'n'},     {"keep", 1, 0, 'k'},     {"pid", 1, 0, 'i'},
        {"quiet", 1, 0, 'q'},     {"deadline", 1, 0, 'd'},    {0, 0, 0, 0}};
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (option) {
        case 'p': run->port = atoi(optarg); break;
        case 'c': run->connections = atoi(optarg); break;
        case 'l': run->lines = strtoull(optarg, NULL, 10); break;
        case 't': run->templates = optarg; break;
        case 'u': run->udp = 1; break;
        case 'r': run->rate = atof(optarg); run->paced = 1; break;
        case 'b': run->burst_ns = atoll(optarg) * 1000; break;
        case 'y': run->want_latency = 1; break;
        case 'w': run->watch = optarg; break;
        case 'n': run->counter = optarg; break;
        case 'k': run->keep = make_keep(optarg); break;
        case 'i': run->pid = atoi(optarg); break;
        case 'q': run->quiet = atof(optarg); break;
        case 'd': run->deadline = atof(optarg); break;
        default: exit(2);
        }
    }
    if (run->templates == NULL || (run->watch == NULL && run->counter == NULL) || run->lines == 0 ||
        run->connections < 1 || (run->paced && run->rate <= 0) || (run->udp && !run->paced) ||
        (run->want_latency && (!run->paced || run->udp))) {
        fprintf(stderr, "load send: options are missing or do not go together\n");
        exit(2);
    }
}

static int run_send(int argc, char **argv) {
    run_t run = {.connections = 1, .quiet = 3, .deadline = 120, .keep = make_keep("")};
    read_options(&run, argc, argv);
    sending_t sending = {.run = &run, .templates = read_templates(run.templates)};
    seen_t seen = {0};
    if (run.want_latency) sending.sent_at = calloc(run.lines, sizeof *sending.sent_at);
    wait_until_idle(run.pid);
    long rss_before = rss_kib(run.pid, "VmRSS");
    sending.sockets = connect_all(&run);
    wait_until_idle(run.pid);
    long rss_connected = rss_kib(run.pid, "VmRSS");
    int64_t cpu_before = cpu_of_tree(run.pid);
    pthread_t thread;
    if (pthread_create(&thread, NULL, send_all, &sending) != 0) die("pthread_create");
    watch(&sending, &seen, cpu_before);
    if (sending.finished || sending.failed) pthread_join(thread, NULL);
    printf("{\"verdict\": \"%s\", \"sent\": %lu, \"lines\": %lu, \"bytes\": %lu, \"seconds\": %.6f, "
           "\"send_seconds\": %.6f, \"late_bursts\": %lu, \"cpu\": %.6f, ",
           seen.verdict, sending.sent, seen.lines, seen.bytes, (double)(seen.finished_at - sending.started) / 1e9,
           (double)(sending.ended - sending.started) / 1e9, sending.late, (double)seen.cpu / 1e9);
    printf("\"rss_kib\": {\"before\": %ld, \"connected\": %ld, \"end\": %ld, \"peak\": %ld}, \"rss_samples\": [",
           rss_before, rss_connected, rss_kib(run.pid, "VmRSS"), rss_kib(run.pid, "VmHWM"));
    for (long i = 0; i < seen.sample_count; i++) printf("%s%ld", i ? ", " : "", seen.samples[i]);
    printf("]");
    if (seen.latency_count > 0) print_latencies(&seen);
    printf("}\n");
    fflush(stdout);
    /* A sender that still waits for a server that does not read is left to the end of the process. */
    _Exit(0);
}

int main(int argc, char **argv) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (argc > 1 && strcmp(argv[1], "send") == 0) return run_send(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "check") == 0) return run_check(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "sink") == 0) return run_sink(argc - 1, argv + 1);
    fprintf(stderr, "usage: load send|check|sink --OPTION VALUE ...\n");
    return 2;
}
