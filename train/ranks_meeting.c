/* How the ranks meet: rank 0 listens, the others connect and say who they are. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/progress.h"
#include "train/ranks_channel.h"

enum { STRANGERS = 16, MOST_NAMED = 16 };
#define ANSWER_SECONDS 5.0 /* for a greeting, once connected */

static void prepare_socket(int socket)
{
    int on = 1;
    fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* ---- rank 0 ---- */

/* Both families where the machine has both. */
static int bind_any(int family, int port, bool loopback)
{
    int on = 1, off = 0, s = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0)
        return -1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = in6addr_any};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(loopback ? INADDR_LOOPBACK : INADDR_ANY)};
    if (family == AF_INET6)
        setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    const struct sockaddr *at = family == AF_INET6 ? (const struct sockaddr *)&six : (const struct sockaddr *)&four;
    if (bind(s, at, family == AF_INET6 ? sizeof six : sizeof four) == 0 && listen(s, SOMAXCONN) == 0)
        return s;
    int reason = errno;
    close(s);
    errno = reason;
    return -1;
}

err channel_listen(int *listener, int *port, bool loopback)
{
    union {
        struct sockaddr_storage any;
        struct sockaddr_in      four;
        struct sockaddr_in6     six;
    } at;
    socklen_t size = sizeof at;
    *listener = loopback ? -1 : bind_any(AF_INET6, *port, false);
    if (*listener < 0)
        *listener = bind_any(AF_INET, *port, loopback);
    if (*listener < 0)
        return err_set(E_DISTRIBUTED, "rank 0 cannot listen on port %d (MASTER_PORT): %s; name a free port", *port, strerror(errno));
    memset(&at, 0, sizeof at);
    getsockname(*listener, (struct sockaddr *)&at, &size);
    *port = ntohs(at.any.ss_family == AF_INET6 ? at.six.sin6_port : at.four.sin_port);
    return OK;
}

void channel_addresses(char *out, size_t room)
{
    struct ifaddrs *list = NULL;
    size_t used = 0;
    out[0] = 0;
    if (getifaddrs(&list) != 0)
        return;
    for (const struct ifaddrs *i = list; i; i = i->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        socklen_t size = i->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        if (i->ifa_addr->sa_family != AF_INET && i->ifa_addr->sa_family != AF_INET6)
            continue;
        if (getnameinfo(i->ifa_addr, size, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0 || strchr(text, '%'))
            continue; /* of one link alone */
        int more = snprintf(out + used, room - used, "%s%s", used ? " " : "", text);
        if (more < 0 || (size_t)more >= room - used) {
            out[used] = 0;
            break;
        }
        used += (size_t)more;
    }
    freeifaddrs(list);
}

typedef struct meeting {
    channel        *rank;    /* [count] */
    greeting       *who;     /* [count] */
    const greeting *self;
    int             missing;
    channel         guest[STRANGERS]; /* connected, and have not yet said who they are */
    double          since[STRANGERS];
} meeting;

/* The greeting of a guest, when it is there. False: a stranger. */
static bool read_greeting(greeting *g, bool *there, channel *c)
{
    frame head;
    const uint8_t *bytes;
    *there = false;
    if (!channel_receive(c))
        return false;
    if (!channel_first(&head, &bytes, c))
        return c->have < sizeof head + sizeof *g;
    if (head.kind != FRAME_HELLO || head.bytes != sizeof *g)
        return false;
    memcpy(g, bytes, sizeof *g);
    g->host[HOST_BYTES - 1] = 0;
    channel_drop(c);
    *there = true;
    return true;
}

static bool greet(channel *c, const greeting *self)
{
    frame head = frame_of(FRAME_HELLO, self->rank, sizeof *self);
    return channel_send(c, &head, self, ANSWER_SECONDS);
}

static err seat(meeting *m, channel *guest, const greeting *g)
{
    if (g->count != m->self->count)
        return err_set(E_DISTRIBUTED, "rank %d (%s) counts %d ranks, rank 0 %d; give all the same WORLD_SIZE", g->rank, g->host, g->count,
                       m->self->count);
    if (g->rank < 1 || g->rank >= g->count)
        return err_set(E_DISTRIBUTED, "%s says it is rank %d of %d; give each process a RANK of its own", g->host, g->rank, g->count);
    if (m->rank[g->rank].socket >= 0)
        return err_set(E_DISTRIBUTED, "two processes say they are rank %d (%s, %s); give each process a RANK of its own", g->rank,
                       m->who[g->rank].host, g->host);
    if (!greet(guest, m->self)) {
        channel_close(guest);
        return OK;
    }
    m->rank[g->rank] = *guest;
    m->who[g->rank] = *g;
    *guest = (channel){.socket = -1};
    m->missing--;
    return OK;
}

static err hear_guest(meeting *m, int i)
{
    greeting g;
    bool there;
    channel *c = &m->guest[i];
    if (!read_greeting(&g, &there, c) || (there && memcmp(g.token, m->self->token, TOKEN_BYTES))) {
        channel_close(c);
        return OK;
    }
    if (there)
        return seat(m, c, &g);
    if (clock_seconds() - m->since[i] > ANSWER_SECONDS)
        channel_close(c);
    return OK;
}

static void let_in(meeting *m, int listener)
{
    for (int i = 0; i < STRANGERS; i++) {
        if (m->guest[i].socket >= 0)
            continue;
        int s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (s < 0)
            return;
        prepare_socket(s);
        m->guest[i].socket = s;
        m->since[i] = clock_seconds();
    }
}

static err meet(meeting *m, int listener, double until)
{
    while (m->missing > 0 && clock_seconds() < until) {
        struct pollfd p[STRANGERS + 1] = {{.fd = listener, .events = POLLIN}};
        for (int i = 0; i < STRANGERS; i++)
            p[i + 1] = (struct pollfd){.fd = m->guest[i].socket, .events = POLLIN};
        poll(p, STRANGERS + 1, 100);
        for (int i = 0; i < STRANGERS; i++)
            if (m->guest[i].socket >= 0)
                TRY(hear_guest(m, i));
        let_in(m, listener);
    }
    return OK;
}

static err missing_ranks(const meeting *m, double seconds)
{
    char text[256] = "";
    int named = 0;
    for (int i = 1; i < m->self->count && named < MOST_NAMED; i++)
        if (m->rank[i].socket < 0)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", named++ ? ", " : "", i);
    return err_set(E_DISTRIBUTED, "rank%s %s%s of %d did not come within %.0f s; are they started, and do they reach rank 0 (%s)?",
                   m->missing > 1 ? "s" : "", text, m->missing > named ? ", ..." : "", m->self->count, seconds, m->self->host);
}

err channel_accept(channel *c, greeting *who, int listener, const greeting *self, double seconds)
{
    meeting m = {.rank = c, .who = who, .self = self, .missing = self->count - 1};
    for (int i = 0; i < STRANGERS; i++)
        m.guest[i].socket = -1;
    err e = meet(&m, listener, clock_seconds() + seconds);
    if (e == OK && m.missing > 0)
        e = missing_ranks(&m, seconds);
    for (int i = 0; i < STRANGERS; i++)
        channel_close(&m.guest[i]);
    return e;
}

/* ---- the others ---- */

static bool connected(int s, double seconds)
{
    struct pollfd p = {.fd = s, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof error;
    return poll(&p, 1, (int)(1000 * seconds)) == 1 && getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

/* True: *c is a connection to rank 0. */
static bool try_address(channel *c, greeting *who, const struct addrinfo *a, const greeting *self)
{
    bool there = false;
    double until = clock_seconds() + ANSWER_SECONDS;
    int s = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return false;
    prepare_socket(s);
    *c = (channel){.socket = s};
    bool sound = (connect(s, a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS) && connected(s, 3) && greet(c, self);
    while (sound && !there && clock_seconds() < until) {
        struct pollfd p = {.fd = s, .events = POLLIN};
        poll(&p, 1, 100);
        sound = read_greeting(who, &there, c);
    }
    if (sound && there && who->rank == 0 && !memcmp(who->token, self->token, TOKEN_BYTES))
        return true;
    channel_close(c);
    return false;
}

static bool try_name(channel *c, greeting *who, const char *name, int port, const greeting *self, const char **reason)
{
    char service[16];
    struct addrinfo wanted = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list = NULL;
    snprintf(service, sizeof service, "%d", port);
    int code = getaddrinfo(name, service, &wanted, &list);
    if (code != 0) {
        *reason = gai_strerror(code);
        return false;
    }
    bool found = false;
    for (const struct addrinfo *a = list; a && !found; a = a->ai_next)
        found = try_address(c, who, a, self);
    if (!found)
        *reason = "no answer";
    freeaddrinfo(list);
    return found;
}

err channel_connect(channel *c, greeting *who, const char *addresses, int port, const greeting *self, double seconds)
{
    char *copy = heap_get(strlen(addresses) + 1), *rest;
    double until = clock_seconds() + seconds;
    const char *reason = "no address";
    bool found = false;
    while (!found && clock_seconds() < until) {
        strcpy(copy, addresses);
        for (char *name = strtok_r(copy, " ", &rest); name && !found; name = strtok_r(NULL, " ", &rest))
            found = try_name(c, who, name, port, self, &reason);
        if (!found)
            poll(NULL, 0, 100);
    }
    free(copy);
    return found ? OK : err_set(E_DISTRIBUTED, "rank %d (%s) does not reach rank 0 at %s, port %d, within %.0f s: %s; is rank 0 started, "
                                               "and are MASTER_ADDR and MASTER_PORT its own?", self->rank, self->host, addresses, port,
                                seconds, reason);
}
