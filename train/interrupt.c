#include "train/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

/* A signal handler has no argument to find its state by: the variables of the project. */
static volatile sig_atomic_t seen, save_asked;
static struct sigaction      former_int, former_term, former_usr1;
static bool                  watching;

static void on_end(int number)
{
    if (seen)
        _exit(128 + number);
    seen = number;
}

static void on_save(int number)
{
    (void)number;
    save_asked = 1;
}

static void take(int number, void (*handler)(int), struct sigaction *former)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, former);
}

void interrupt_begin(void)
{
    save_asked = 0;
    take(SIGUSR1, on_save, &former_usr1);
}

void interrupt_watch(void)
{
    seen = 0;
    watching = true;
    take(SIGINT, on_end, &former_int);
    take(SIGTERM, on_end, &former_term);
}

void interrupt_end(void)
{
    if (watching) {
        sigaction(SIGINT, &former_int, NULL);
        sigaction(SIGTERM, &former_term, NULL);
    }
    watching = false;
    sigaction(SIGUSR1, &former_usr1, NULL);
}

err interrupt_seen(void)
{
    return seen == SIGINT ? E_INTERRUPTED : seen == SIGTERM ? E_TERMINATED : OK;
}

bool interrupt_save_asked(void)
{
    bool asked = save_asked != 0;
    save_asked = 0;
    return asked;
}
