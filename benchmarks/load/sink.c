/* The floor: a TCP server that counts lines, and with --out also writes them, each connection's lines whole. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* As much as the servers read at once. A longer line than this is written in pieces. */
#define READ (64 * 1024)

typedef struct {
    int fd;
    size_t held;
    char data[2 * READ];
} peer_t;

static uint64_t count_lines(const char *at, size_t length) {
    uint64_t lines = 0;
    for (const char *end = at + length; (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++) lines++;
    return lines;
}

static void write_all(int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t done = write(fd, data, length);
        if (done < 0) die("write");
        data += done;
        length -= (size_t)done;
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0) die("listen");
    return fd;
}

/* Returns the lines that are done with; SIZE_MAX when the connection is closed. */
static uint64_t serve(peer_t *peer, int out) {
    ssize_t got = recv(peer->fd, peer->data + peer->held, READ, 0);
    if (got <= 0) return UINT64_MAX;
    if (out < 0) return count_lines(peer->data, (size_t)got);
    size_t length = peer->held + (size_t)got;
    char *last = memrchr(peer->data, '\n', length);
    size_t whole = last == NULL ? 0 : (size_t)(last - peer->data) + 1;
    if (whole == 0 && length >= READ) whole = length;
    write_all(out, peer->data, whole);
    peer->held = length - whole;
    memmove(peer->data, peer->data + whole, peer->held);
    return 0;
}

int run_sink(int argc, char **argv) {
    static const struct option names[] = {
        {"port", 1, 0, 'p'}, {"out", 1, 0, 'o'}, {"counter", 1, 0, 'c'}, {0, 0, 0, 0}};
    int port = 0, out = -1;
    uint64_t nowhere = 0, *counter = &nowhere;
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (option == 'p') {
            port = atoi(optarg);
        } else if (option == 'o') {
            out = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
            if (out < 0) die(optarg);
        } else if (option == 'c') {
            int fd = open(optarg, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
            if (fd < 0 || ftruncate(fd, sizeof *counter) < 0) die(optarg);
            counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (counter == MAP_FAILED) die("mmap");
        } else {
            return 2;
        }
    }
    int listening = listen_on(port), loop = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = NULL}, ready[256];
    epoll_ctl(loop, EPOLL_CTL_ADD, listening, &want);
    printf("listening\n");
    fflush(stdout);
    for (;;) {
        int count = epoll_wait(loop, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            peer_t *peer = ready[i].data.ptr;
            if (peer == NULL) {
                peer = calloc(1, sizeof *peer);
                peer->fd = accept(listening, NULL, NULL);
                want.data.ptr = peer;
                epoll_ctl(loop, EPOLL_CTL_ADD, peer->fd, &want);
                continue;
            }
            uint64_t lines = serve(peer, out);
            if (lines == UINT64_MAX) {
                close(peer->fd);
                free(peer);
            } else {
                *counter += lines;
            }
        }
    }
}
