#include "train/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

/* A signal handler has no argument to find its state by: the one variable of the project. */
static volatile sig_atomic_t seen;
static struct sigaction      former_int, former_term;

static void on_signal(int number)
{
    if (seen)
        _exit(128 + number);
    seen = number;
}

void interrupt_watch(void)
{
    seen = 0;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, &former_int);
    sigaction(SIGTERM, &action, &former_term);
}

void interrupt_unwatch(void)
{
    sigaction(SIGINT, &former_int, NULL);
    sigaction(SIGTERM, &former_term, NULL);
}

err interrupt_seen(void)
{
    return seen == SIGINT ? E_INTERRUPTED : seen == SIGTERM ? E_TERMINATED : OK;
}
