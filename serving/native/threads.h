/* A team of threads that work on one step together.
 *
 * OpenMP is not used: torch's loads and loads of models leave teams behind that count as busy, and with more threads
 * than processors libgomp sleeps at every barrier, of which a step has some hundred. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct team team;

struct team {
    int threads;
    atomic_int arrived, phase, asleep, next;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    unsigned long job; /* counts jobs; under `lock` */
    int closing;
    void (*work)(void *, int thread);
    void *argument;
    pthread_t *others;
};

/* NULL where the system has no more threads. */
team *team_open(int threads);

void team_close(team *team);

/* Runs `work` on all threads, this one as thread 0; returns when all have ended. One caller at a time. */
void team_run(team *team, void (*work)(void *, int), void *argument);

/* Waits until all threads of the team are here, and starts a new count for `team_take`. */
void team_meet(team *team);

/* The next piece of work since the last meeting, each given to one thread only; counts from 0. */
static inline int team_take(team *team) { return atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed); }
