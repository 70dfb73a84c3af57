/* Clocks, and what the kernel knows of the server: CPU of its process tree to the nanosecond, and memory. */
#define _GNU_SOURCE
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void die(const char *what) {
    perror(what);
    exit(2);
}

int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

void sleep_until(int64_t when) {
    struct timespec t = {when / 1000000000LL, when % 1000000000LL};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* The CPU of children that have ended and were waited for: ticks of 10 ms, from /proc/PID/stat. */
static int64_t cpu_of_ended_children(pid_t pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    char *fields = strrchr(text, ')');
    long user = 0, kernel = 0;
    /* The name in brackets is field 2; cutime and cstime are 16 and 17. */
    if (fields != NULL) {
        sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %ld %ld", &user, &kernel);
    }
    return (user + kernel) * (1000000000LL / sysconf(_SC_CLK_TCK));
}

int64_t cpu_of_tree(pid_t pid) {
    clockid_t clock;
    struct timespec t;
    if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0) return 0;
    int64_t total = t.tv_sec * 1000000000LL + t.tv_nsec + cpu_of_ended_children(pid);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) return total;
    int child;
    while (fscanf(file, "%d", &child) == 1) total += cpu_of_tree(child);
    fclose(file);
    return total;
}

long rss_kib(pid_t pid, const char *which) {
    char path[64], line[256];
    long value = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = pid > 0 ? fopen(path, "r") : NULL;
    if (file == NULL) return 0;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, which, strlen(which)) == 0) value = atol(line + strlen(which) + 1);
    }
    fclose(file);
    return value;
}

/* Until the server has used less than 1 ms of CPU in 50 ms, three times in a row; 20 s at most. */
void wait_until_idle(pid_t pid) {
    int64_t give_up = now_ns() + 20000000000LL, before = cpu_of_tree(pid);
    for (int calm = 0; pid > 0 && calm < 3 && now_ns() < give_up;) {
        sleep_until(now_ns() + 50000000);
        int64_t cpu = cpu_of_tree(pid);
        calm = cpu - before < 1000000 ? calm + 1 : 0;
        before = cpu;
    }
}
