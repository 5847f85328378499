/* What a rank holds of the others, for the files ranks*.c alone. */
#ifndef MSD_TRAIN_RANKS_STATE_H
#define MSD_TRAIN_RANKS_STATE_H

#include <pthread.h>

#include "train/ranks.h"
#include "train/ranks_channel.h"

/* Where a rank is. serial counts the calls of ranks_phase; patience: seconds that it may stay there. */
typedef struct stamp {
    rank_phase phase;
    int64_t    step, serial;
    double     patience;
} stamp;

typedef struct parcel { /* a FRAME_DATA that nobody has asked for yet */
    struct parcel *next;
    size_t         bytes;
    uint8_t        data[];
} parcel;

typedef struct rank_peer {
    channel         link;    /* the thread reads; who writes holds `sending` */
    pthread_mutex_t sending;
    char            host[HOST_BYTES];
    stamp           at;      /* as last heard */
    double          heard, moved; /* of the own clock: last bytes, last new stamp */
    bool            ended;   /* said goodbye */
    bool            gone;    /* its connection has ended */
    parcel         *first, **last;
} rank_peer;

struct ranks {
    ranks_found     found;
    int             rank, count, local;
    logger         *log;
    char            host[HOST_BYTES];
    rank_peer      *peer;    /* [count] */
    int             from, to; /* connected ones: rank 0 has 1 .. count - 1, the others rank 0; none before the meeting */
    pthread_mutex_t lock;    /* of everything but the links */
    pthread_cond_t  news;    /* a parcel, or a peer gone */
    pthread_t       thread;
    double          limit;   /* the watchdog's */
    stamp           own;
    double          moved;   /* when own changed */
    double          longest[RANK_PHASES]; /* longest standstill so far in a good step */
    int64_t         first_step;           /* the first that was stamped; -1: none yet */
    err           (*probe)(void *user); /* NULL: none */
    void           *probed;
    bool            stop;    /* the thread is to end */
    bool            ending;  /* all have done their work: connections may end */
    bool            failing; /* this rank ends by an error of its own: nothing that others say matters */
    bool            leaving;
};

/* Starts and ends the thread that beats, listens and judges. */
err  ranks_watch_start(ranks *r);
void ranks_watch_stop(ranks *r);

/* What rank `rank` is at, for messages: "forward of step 18, 17 done". */
void ranks_place_text(char *out, size_t room, const stamp *at);

/* To rank 0 alone: what every rank gave, as long as it likes. Rank 0 then has parcels[count]; NULL for its own. */
err ranks_collect(ranks *r, parcel **parcels, const void *mine, size_t bytes);

#endif
