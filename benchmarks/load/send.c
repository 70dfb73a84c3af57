/* The sending side: bulk over TCP as fast as the server reads, or paced over TCP or UDP. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Large enough for few system calls, small enough to stay in the cache of one core. */
#define CHUNK (64 * 1024)
#define MOST_AT_ONCE 1024

int *connect_all(const run_t *run) {
    int *sockets = calloc((size_t)run->connections, sizeof *sockets);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)run->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < run->connections; i++) {
        int s = socket(AF_INET, (run->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
        if (s < 0) die("socket");
        if (connect(s, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
        int one = 1;
        if (!run->udp) setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        sockets[i] = s;
    }
    return sockets;
}

/* One connection in bulk: its share of the numbers, and a chunk of lines whose numbers are patched again and again. */
typedef struct {
    uint64_t next, end;
    char *chunk;
    size_t *starts, *variants;  /* of each line of the chunk */
    size_t lines, length, at;
    const templates_t *all;
} flow_t;

static flow_t make_flow(const templates_t *all, uint64_t first, uint64_t end) {
    /* A whole number of cycles through the variants, so that the same chunk serves again. */
    size_t cycles = all->total >= CHUNK ? 1 : CHUNK / all->total;
    flow_t flow = {.next = first, .end = end, .all = all};
    size_t lines = cycles * all->count;
    flow.chunk = malloc(cycles * all->total);
    flow.starts = calloc(lines + 1, sizeof *flow.starts);
    flow.variants = calloc(lines, sizeof *flow.variants);
    size_t at = 0;
    for (size_t i = 0; i < lines; i++) {
        size_t variant = (first + i) % all->count;
        memcpy(flow.chunk + at, all->text[variant], all->length[variant]);
        flow.variants[i] = variant;
        at += all->length[variant];
        flow.starts[i + 1] = at;
    }
    flow.lines = lines;
    return flow;
}

static void refill(flow_t *flow) {
    size_t lines = flow->end - flow->next < flow->lines ? flow->end - flow->next : flow->lines;
    for (size_t i = 0; i < lines; i++) {
        size_t variant = flow->variants[i];
        patch_line(flow->chunk + flow->starts[i], flow->all->digits[variant], flow->all->micros[variant],
                   flow->next + i);
    }
    flow->next += lines;
    flow->length = flow->starts[lines];
    flow->at = 0;
}

static void send_bulk(sending_t *sending) {
    const run_t *run = sending->run;
    int count = run->connections, open = count;
    flow_t *flows = calloc((size_t)count, sizeof *flows);
    struct pollfd *polls = calloc((size_t)count, sizeof *polls);
    for (int i = 0; i < count; i++) {
        flows[i] = make_flow(&sending->templates, run->lines * (uint64_t)i / (uint64_t)count,
                             run->lines * (uint64_t)(i + 1) / (uint64_t)count);
        refill(&flows[i]);
        fcntl(sending->sockets[i], F_SETFL, O_NONBLOCK);
        polls[i] = (struct pollfd){.fd = sending->sockets[i], .events = POLLOUT};
    }
    sending->started = now_ns();
    while (open > 0 && !sending->failed) {
        if (poll(polls, (nfds_t)count, 1000) < 0 && errno != EINTR) die("poll");
        for (int i = 0; i < count; i++) {
            if (polls[i].fd < 0 || polls[i].revents == 0) continue;
            flow_t *flow = &flows[i];
            ssize_t done = send(polls[i].fd, flow->chunk + flow->at, flow->length - flow->at, MSG_NOSIGNAL);
            if (done < 0 && errno != EAGAIN && errno != EINTR) {
                sending->failed = 1;
                break;
            }
            if (done > 0) flow->at += (size_t)done;
            if (flow->at < flow->length) continue;
            refill(flow);
            if (flow->length == 0) {
                polls[i].fd = -1;
                open--;
            }
        }
    }
    sending->sent = run->lines;
}

static int send_stream(int fd, const char *text, size_t length) {
    while (length > 0) {
        ssize_t done = send(fd, text, length, MSG_NOSIGNAL);
        if (done < 0 && errno != EINTR) return -1;
        if (done > 0) {
            text += done;
            length -= (size_t)done;
        }
    }
    return 0;
}

/* Lines in order of their number over all connections in turn; what is due goes at once, then it sleeps. */
static void send_paced(sending_t *sending) {
    const run_t *run = sending->run;
    const templates_t *all = &sending->templates;
    char *buffer = malloc(MOST_AT_ONCE * all->longest);
    struct iovec parts[MOST_AT_ONCE];
    struct mmsghdr messages[MOST_AT_ONCE];
    memset(messages, 0, sizeof messages);
    /* When the generator itself was late, no more than four bursts are made up for at once. */
    uint64_t most = (uint64_t)(4 * run->rate * (double)run->burst_ns / 1e9) + 1;
    if (most > MOST_AT_ONCE) most = MOST_AT_ONCE;
    uint64_t sent = 0, skipped = 0;
    prctl(PR_SET_TIMERSLACK, 1);
    sending->started = now_ns();
    while (sent < run->lines && !sending->failed) {
        int64_t now = now_ns();
        uint64_t due = (uint64_t)((double)(now - sending->started) / 1e9 * run->rate) + 1 - skipped;
        if (due > run->lines) due = run->lines;
        uint64_t now_due = due > sent ? due - sent : 0;
        if (run->udp && now_due > most) {
            skipped += now_due - most;
            sending->late++;
            now_due = most;
        }
        if (now_due > MOST_AT_ONCE) now_due = MOST_AT_ONCE;
        for (uint64_t i = 0; i < now_due; i++) {
            uint64_t number = sent + i;
            size_t variant = number % all->count;
            char *line = buffer + i * all->longest;
            memcpy(line, all->text[variant], all->length[variant]);
            patch_line(line, all->digits[variant], all->micros[variant], number);
            parts[i] = (struct iovec){line, all->length[variant]};
            messages[i].msg_hdr.msg_iov = &parts[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        for (uint64_t i = 0; i < now_due;) {
            uint64_t number = sent + i;
            int fd = sending->sockets[number % (uint64_t)run->connections];
            if (sending->sent_at != NULL) sending->sent_at[number] = now_ns();
            if (!run->udp) {
                if (send_stream(fd, parts[i].iov_base, parts[i].iov_len) < 0) sending->failed = 1;
                i++;
                continue;
            }
            int done = sendmmsg(fd, messages + i, (unsigned)(now_due - i), 0);
            /* ECONNREFUSED tells of an earlier datagram: the checker will miss it. */
            if (done < 0 && errno != EINTR && errno != ECONNREFUSED) die("sendmmsg");
            if (done > 0) i += (uint64_t)done;
        }
        sent += now_due;
        sending->sent = sent;
        int64_t next = sending->started + (int64_t)((double)(sent + skipped) / run->rate * 1e9);
        sleep_until(next > now + run->burst_ns ? next : now + run->burst_ns);
    }
    free(buffer);
}

void *send_all(void *argument) {
    sending_t *sending = argument;
    if (sending->run->paced) {
        send_paced(sending);
    } else {
        send_bulk(sending);
    }
    sending->ended = now_ns();
    sending->finished = 1;
    return NULL;
}
