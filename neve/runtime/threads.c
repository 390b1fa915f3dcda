/* A pool of threads for the host side of neve_parallel.  License: BSD-3-Clause.
 *
 * Workers spin for a short while after a call and then sleep, so that an idle process costs nothing; they never spin when
 * there are more threads than processors to run them. After a fork the child's pool starts its own workers. A pool that is
 * busy with another thread's call does not make the second caller wait: that call runs alone, with the same bits as result.
 */
#if defined(__linux__)
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sys/syscall.h>
#endif
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>
#include "neve.h"

#define MAX_THREADS 256
#define SPINS 4000 /* some 50 to 150 microseconds */

typedef void neve_body(void *arg, int32_t tid, int32_t nt);

typedef struct pool {
    int32_t threads, started, spins;
    uint32_t call, left, stop; /* call: how many there were; left: workers not yet done with this one */
    pid_t user;                /* the process in which a call is running, 0: none */
    pid_t home;                /* the process in which the workers are */
    neve_body *body;
    void *arg;
    pthread_t handles[MAX_THREADS];
#if !defined(__linux__)
    pthread_mutex_t mutex;
    pthread_cond_t changed;
#endif
} pool;

typedef struct worker {
    pool *pool;
    int32_t tid;
    uint32_t seen;
} worker;

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Only these three know how the system sleeps. linux: no pthread_cond, whose symbols have incompatible versions. */
static void sleep_while(pool *p, uint32_t *word, uint32_t value) {
#if defined(__linux__)
    (void)p;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
#else
    pthread_mutex_lock(&p->mutex);
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == value) pthread_cond_wait(&p->changed, &p->mutex);
    pthread_mutex_unlock(&p->mutex);
#endif
}

static void wake(pool *p, uint32_t *word) {
#if defined(__linux__)
    (void)p;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
#else
    (void)word;
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->mutex);
#endif
}

static int32_t processors(void) {
#if defined(__linux__)
    unsigned long mask[64] = {0};
    long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    int32_t count = 0;
    /* __builtin_popcountl is a call of libgcc, which is not linked, where the processor has no instruction for it */
    for (long i = 0; i < bytes / (long)sizeof mask[0]; i++)
        for (unsigned long m = (unsigned long)mask[i]; m; m &= m - 1) count++;
    if (count > 0) return count;
#endif
    return (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Returns when *word is no longer value. */
static void await(pool *p, uint32_t *word, uint32_t value) {
    for (int32_t i = 0; i < p->spins; i++) {
        if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value) return;
        relax();
    }
    while (__atomic_load_n(word, __ATOMIC_SEQ_CST) == value) sleep_while(p, word, value);
}

static void *work(void *start) {
    worker w = *(worker *)start;
    pool *p = w.pool;
    free(start);
    for (;;) {
        await(p, &p->call, w.seen);
        w.seen = __atomic_load_n(&p->call, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&p->stop, __ATOMIC_SEQ_CST)) return NULL;
        p->body(p->arg, w.tid, p->started + 1);
        if (__atomic_sub_fetch(&p->left, 1, __ATOMIC_SEQ_CST) == 0) wake(p, &p->left);
    }
}

static void start_workers(pool *p) {
    p->home = getpid();
    p->started = 0;
    p->left = 0;
#if !defined(__linux__)
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->changed, NULL);
#endif
    p->spins = p->threads <= processors() ? SPINS : 0;
    while (p->started < p->threads - 1) {
        worker *w = malloc(sizeof *w);
        if (!w) return;
        *w = (worker){p, p->started + 1, p->call};
        if (pthread_create(&p->handles[p->started], NULL, work, w) != 0) {
            free(w);
            return;
        }
        p->started++;
    }
}

NEVE_API void neve_pool_run(void *host, neve_body *body, void *arg) {
    pool *p = host;
    pid_t here = getpid(), user = __atomic_load_n(&p->user, __ATOMIC_RELAXED);
    /* a user that is another process was there when this one was forked off, and stayed there like the workers */
    if (user == here || !__atomic_compare_exchange_n(&p->user, &user, here, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        body(arg, 0, 1);
        return;
    }
    if (p->home != here) start_workers(p);
    if (p->started > 0) {
        p->body = body;
        p->arg = arg;
        __atomic_store_n(&p->left, (uint32_t)p->started, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&p->call, 1, __ATOMIC_SEQ_CST);
        wake(p, &p->call);
    }
    body(arg, 0, p->started + 1);
    uint32_t left;
    while ((left = __atomic_load_n(&p->left, __ATOMIC_SEQ_CST)) != 0) await(p, &p->left, left);
    __atomic_store_n(&p->user, 0, __ATOMIC_RELEASE);
}

NEVE_API void neve_pool_yield(void *host) {
    (void)host;
    sched_yield();
}

/* A pool for calls of up to this many threads, the caller included; the workers start with the first call. NULL: no memory. */
NEVE_API void *neve_pool_new(int32_t threads) {
    pool *p = calloc(1, sizeof *p);
    if (p) p->threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    return p;
}

/* Ends the workers; no call may be running. */
NEVE_API void neve_pool_free(void *host) {
    pool *p = host;
    if (p->home == getpid()) {
        __atomic_store_n(&p->stop, 1, __ATOMIC_SEQ_CST);
        __atomic_add_fetch(&p->call, 1, __ATOMIC_SEQ_CST);
        wake(p, &p->call);
        for (int32_t i = 0; i < p->started; i++) pthread_join(p->handles[i], NULL);
    }
    free(p);
}
