#include "threads.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPINS 2000 /* some hundred microseconds: longer than any piece of work takes where nobody is in the way */

typedef struct {
    team *team;
    int number;
} member;

void team_meet(team *team)
{
    const int phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) == team->threads - 1) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->next, 0, memory_order_relaxed);
        atomic_store(&team->phase, phase + 1);
        if (atomic_load(&team->asleep))
            syscall(SYS_futex, &team->phase, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
        return;
    }
    for (int spins = 0; spins < SPINS; spins++) {
        if (atomic_load_explicit(&team->phase, memory_order_acquire) != phase)
            return;
        __builtin_ia32_pause();
    }
    /* The others have lost their processor; they get it back sooner if this one is not in use. */
    atomic_fetch_add(&team->asleep, 1);
    while (atomic_load(&team->phase) == phase)
        syscall(SYS_futex, &team->phase, FUTEX_WAIT_PRIVATE, phase, NULL, NULL, 0);
    atomic_fetch_sub(&team->asleep, 1);
}

static void *serve(void *argument)
{
    member self = *(member *)argument;
    free(argument);
    team *team = self.team;
    unsigned long done = 0;
    for (;;) {
        pthread_mutex_lock(&team->lock);
        while (team->job == done && !team->closing)
            pthread_cond_wait(&team->wake, &team->lock);
        const int closing = team->closing;
        done = team->job;
        pthread_mutex_unlock(&team->lock);
        if (closing)
            return NULL;
        team->work(team->argument, self.number);
        team_meet(team);
    }
}

void team_run(team *team, void (*work)(void *, int), void *argument)
{
    pthread_mutex_lock(&team->lock);
    team->work = work;
    team->argument = argument;
    team->job++;
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
    work(argument, 0);
    team_meet(team);
}

team *team_open(int threads)
{
    team *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->wake, NULL);
    made->others = calloc(threads, sizeof *made->others);
    made->threads = 1;
    while (made->others && made->threads < threads) {
        member *self = malloc(sizeof *self);
        if (!self)
            break;
        *self = (member){made, made->threads};
        if (pthread_create(&made->others[made->threads - 1], NULL, serve, self)) {
            free(self);
            break;
        }
        made->threads++;
    }
    if (made->threads == threads)
        return made;
    team_close(made);
    return NULL;
}

void team_close(team *team)
{
    pthread_mutex_lock(&team->lock);
    team->closing = 1;
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
    for (int other = 0; other < team->threads - 1; other++)
        pthread_join(team->others[other], NULL);
    free(team->others);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->lock);
    free(team);
}
