/* The control channel's sockets: how the ranks meet around rank 0, and frames on a connection. Nothing here waits longer
 * than it is told to. The wire is this program's own: both ends are the same binary (which ranks_compare checks), but what
 * comes in is bounded before it is believed. */
#ifndef MSD_TRAIN_RANKS_CHANNEL_H
#define MSD_TRAIN_RANKS_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef enum frame_kind {
    FRAME_HELLO,  /* the first: rank and count of who connects, and the token; answered by the same */
    FRAME_BEAT,   /* phase, step, serial, patience */
    FRAME_DATA,   /* of a collective call */
    FRAME_FAILED, /* code and text: the sender ends by an error of its own */
    FRAME_LEAVE,  /* code and text: the receiver is to leave */
    FRAME_BYE,    /* the sender ends well */
    FRAME_KINDS
} frame_kind;

typedef struct frame {
    uint32_t magic;
    int32_t  kind, rank, code, phase;
    uint32_t bytes; /* of what follows */
    int64_t  step, serial;
    double   patience;
} frame;

enum { FRAME_MOST_BYTES = 1 << 26, TOKEN_BYTES = 16, HOST_BYTES = 64 };

/* What a rank sends first. */
typedef struct greeting {
    int32_t rank, count;
    uint8_t token[TOKEN_BYTES];
    char    host[HOST_BYTES]; /* for messages */
} greeting;

/* One connection. Received bytes become frames in `in`. */
typedef struct channel {
    int      socket; /* -1: none, or ended */
    uint8_t *in;
    size_t   have, room;
} channel;

frame frame_of(frame_kind kind, int rank, uint32_t bytes);

/* Non-blocking sockets with no delay. port 0: any free one; *port is then which. E_DISTRIBUTED. */
err channel_listen(int *listener, int *port, bool loopback);

/* Rank 0: waits for ranks 1 .. count - 1; who[r] is what rank r said of itself. Whatever else connects is sent away.
 * E_DISTRIBUTED after `seconds`, naming the ranks that did not come; at once for a rank that comes twice or counts
 * otherwise. */
err channel_accept(channel *c, greeting *who, int listener, const greeting *self, double seconds);

/* The others: tries every address (a list with spaces between) until one answers as rank 0. *who is that. */
err channel_connect(channel *c, greeting *who, const char *addresses, int port, const greeting *self, double seconds);

/* All addresses of this machine under which others may reach it, with spaces between. */
void channel_addresses(char *out, size_t room);

/* Sends a frame and what follows it; false when the other end is gone or took nothing for `seconds`. */
bool channel_send(channel *c, const frame *head, const void *bytes, double seconds);
/* Bytes that were sent and not yet taken by the other end's machine. */
int  channel_unsent(const channel *c);
/* Reads what is there, without waiting. False: the other end is gone, or sends what is no frame. */
bool channel_receive(channel *c);
/* The first frame that is whole: *head and where its bytes lie, until channel_drop. False: none yet. */
bool channel_first(frame *head, const uint8_t **bytes, const channel *c);
void channel_drop(channel *c);
void channel_close(channel *c);

#endif
