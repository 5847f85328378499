#include "train/ranks_channel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/progress.h"

enum { MAGIC = 0x6d736431, READ_AT_ONCE = 1 << 16 };

frame frame_of(frame_kind kind, int rank, uint32_t bytes)
{
    return (frame){.magic = MAGIC, .kind = (int32_t)kind, .rank = rank, .bytes = bytes};
}

void channel_close(channel *c)
{
    if (c->socket >= 0)
        close(c->socket);
    free(c->in);
    *c = (channel){.socket = -1};
}

/* ---- sending ---- */

static bool wait_for(int socket, short events, double seconds)
{
    struct pollfd p = {.fd = socket, .events = events};
    double until = clock_seconds() + seconds;
    for (;;) {
        double left = until - clock_seconds();
        int ready = poll(&p, 1, left > 0 ? (int)(1000 * left) + 1 : 0);
        if (ready > 0)
            return true;
        if (ready == 0 || errno != EINTR)
            return false;
    }
}

static bool send_all(int socket, const void *bytes, size_t size, double seconds)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t sent = send(socket, at, size, MSG_NOSIGNAL);
        if (sent > 0) {
            at += sent;
            size -= (size_t)sent;
        } else if (sent < 0 && errno == EINTR) {
            continue;
        } else if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!wait_for(socket, POLLOUT, seconds))
                return false;
        } else {
            return false;
        }
    }
    return true;
}

bool channel_send(channel *c, const frame *head, const void *bytes, double seconds)
{
    return c->socket >= 0 && send_all(c->socket, head, sizeof *head, seconds) && send_all(c->socket, bytes, head->bytes, seconds);
}

int channel_unsent(const channel *c)
{
    int bytes = 0;
    return c->socket >= 0 && ioctl(c->socket, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

/* ---- receiving ---- */

static bool frame_is_sound(const frame *head)
{
    return head->magic == MAGIC && head->kind >= 0 && head->kind < FRAME_KINDS && head->bytes <= FRAME_MOST_BYTES;
}

static void make_room(channel *c)
{
    if (c->room - c->have >= READ_AT_ONCE)
        return;
    size_t room = c->room ? 2 * c->room : 2 * READ_AT_ONCE;
    uint8_t *larger = heap_get(room);
    if (c->have)
        memcpy(larger, c->in, c->have);
    free(c->in);
    c->in = larger;
    c->room = room;
}

bool channel_receive(channel *c)
{
    while (c->socket >= 0) {
        frame head;
        if (c->have >= sizeof head) {
            memcpy(&head, c->in, sizeof head);
            if (!frame_is_sound(&head))
                return false;
            if (c->have >= sizeof head + head.bytes)
                return true; /* that one first */
        }
        make_room(c);
        ssize_t got = recv(c->socket, c->in + c->have, READ_AT_ONCE, 0);
        if (got > 0)
            c->have += (size_t)got;
        else if (got == 0)
            return false;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return true;
        else if (errno != EINTR)
            return false;
    }
    return false;
}

bool channel_first(frame *head, const uint8_t **bytes, const channel *c)
{
    if (c->have < sizeof *head)
        return false;
    memcpy(head, c->in, sizeof *head);
    if (!frame_is_sound(head) || c->have < sizeof *head + head->bytes)
        return false;
    *bytes = c->in + sizeof *head;
    return true;
}

void channel_drop(channel *c)
{
    frame head;
    memcpy(&head, c->in, sizeof head);
    size_t size = sizeof head + head.bytes;
    memmove(c->in, c->in + size, c->have - size);
    c->have -= size;
}
