/* What every kernel gets of its surroundings: its thread, its share of the work, a barrier.
 *
 * No libc: the few memory functions that a compiler may call on its own accord are defined at the end.
 */
#ifndef NEVE_RT_H
#define NEVE_RT_H

#include <stddef.h>
#include <stdint.h>

#define NEVE_INLINE static inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define NEVE_NOINLINE static __attribute__((noinline, unused))
#else
#define NEVE_NOINLINE static __attribute__((noinline, noclone, unused))
#endif
#define NEVE_RESTRICT __restrict__
#define NEVE_ALIGNED(n) __attribute__((aligned(n)))
#define NEVE_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Unrolls the constant-count loop that follows it, up to 16 iterations. */
#define NEVE_UNROLL _Pragma("GCC unroll 16")
#define NEVE_NO_UNROLL _Pragma("GCC unroll 1")

#define NEVE_MOST_THREADS 15 /* of a call */

/* Zero it before the first use; threads of one call share one. The two counters of the barrier are on cache lines of their own;
 * taken counts the chunks of each thread's share that have been begun (see neve_take), and every barrier clears it. */
struct neve_barrier_state {
    int32_t arrived;
    int32_t taken[NEVE_MOST_THREADS];
    int32_t generation;
    int32_t pad1[15];
};

typedef struct neve_thread {
    int32_t tid, nt;                 /* this thread, number of threads; 0 <= tid < nt */
    char *scratch;                   /* this thread's own, 64-byte aligned */
    char *shared;                    /* of all the threads of the call, 64-byte aligned */
    struct neve_barrier_state *bar;  /* may be null if nt is 1 */
    void (*yield)(void *);           /* may be null: what a long spin calls, with host */
    void *host;
} neve_thread;

typedef struct {
    int64_t begin, end;
} neve_range;

NEVE_INLINE int64_t neve_min(int64_t a, int64_t b) { return a < b ? a : b; }
NEVE_INLINE int64_t neve_max(int64_t a, int64_t b) { return a > b ? a : b; }
NEVE_INLINE int64_t neve_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Square roots by one instruction: without -fno-math-errno a compiler calls libm's, for the sake of its errno. */
#if defined(__clang__) && __has_builtin(__builtin_elementwise_sqrt)
NEVE_INLINE float neve_root32(float x) { return __builtin_elementwise_sqrt(x); }
NEVE_INLINE double neve_root64(double x) { return __builtin_elementwise_sqrt(x); }
#elif defined(__NO_MATH_ERRNO__) || !(defined(__x86_64__) || defined(__aarch64__))
NEVE_INLINE float neve_root32(float x) { return __builtin_sqrtf(x); }
NEVE_INLINE double neve_root64(double x) { return __builtin_sqrt(x); }
#elif defined(__aarch64__)
NEVE_INLINE float neve_root32(float x) { __asm__("fsqrt %s0, %s0" : "+w"(x)); return x; }
NEVE_INLINE double neve_root64(double x) { __asm__("fsqrt %d0, %d0" : "+w"(x)); return x; }
#elif defined(__AVX__)
NEVE_INLINE float neve_root32(float x) { __asm__("vsqrtss %0, %0, %0" : "+x"(x)); return x; }
NEVE_INLINE double neve_root64(double x) { __asm__("vsqrtsd %0, %0, %0" : "+x"(x)); return x; }
#else
NEVE_INLINE float neve_root32(float x) { __asm__("sqrtss %0, %0" : "+x"(x)); return x; }
NEVE_INLINE double neve_root64(double x) { __asm__("sqrtsd %0, %0" : "+x"(x)); return x; }
#endif

/* This thread's contiguous share of 0..n: shares differ by at most one. */
NEVE_INLINE neve_range neve_share(int64_t n, const neve_thread *th)
{
    if (th->nt == 1)
        return (neve_range){0, n};
    int64_t each = n / th->nt, more = n % th->nt;
    int64_t begin = each * th->tid + neve_min(th->tid, more);
    return (neve_range){begin, begin + each + (th->tid < more)};
}

NEVE_INLINE void neve_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

NEVE_NOINLINE void neve_barrier_wait(neve_thread *th)
{
    struct neve_barrier_state *bar = th->bar;
    int32_t generation = __atomic_load_n(&bar->generation, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&bar->arrived, 1, __ATOMIC_ACQ_REL) == th->nt) {
        for (int32_t i = 0; i < NEVE_MOST_THREADS; i++)
            __atomic_store_n(&bar->taken[i], 0, __ATOMIC_RELAXED);
        __atomic_store_n(&bar->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&bar->generation, (int32_t)((uint32_t)generation + 1u), __ATOMIC_RELEASE);
        return;
    }
    for (int32_t spins = 0; __atomic_load_n(&bar->generation, __ATOMIC_ACQUIRE) == generation; spins++) {
        neve_pause();
        if (spins >= 4096 && th->yield) {
            spins = 0;
            th->yield(th->host);
        }
        spins &= 0xffff;
    }
}

/* All threads of the call wait for one another here; what each wrote before is visible to all after it. */
NEVE_INLINE void neve_barrier(neve_thread *th)
{
    if (th->nt > 1)
        neve_barrier_wait(th);
}

/* Work that is shared in chunks: each thread does its static share, front to back, then what is left of the others'. Processors are
 * not equally fast: there are small cores, and neighbours on shared machines. Which thread computes what depends on time, so results
 * must not depend on it. One use between two barriers. */
typedef struct {
    int64_t total, least; /* units; the fewest in a chunk, but for the last of a share */
    int32_t owner, tried; /* whose share is worked on, how many shares are known to be done */
} neve_work;

#define NEVE_CHUNKS 8 /* of a share */

NEVE_INLINE neve_work neve_work_of(int64_t total, int64_t least, const neve_thread *th) { return (neve_work){total, least, th->tid, 0}; }

NEVE_NOINLINE int neve_take_chunk(neve_work *w, const neve_thread *th, neve_range *r)
{
    for (; w->tried < th->nt; w->tried++, w->owner = w->owner + 1 == th->nt ? 0 : w->owner + 1) {
        neve_thread owner = {w->owner, th->nt, 0, 0, 0, 0, 0};
        neve_range share = neve_share(w->total, &owner);
        int64_t size = share.end - share.begin, chunk = neve_max(neve_ceil_div(size, NEVE_CHUNKS), neve_min(w->least, size));
        int64_t begin = size ? share.begin + chunk * __atomic_fetch_add(&th->bar->taken[w->owner], 1, __ATOMIC_ACQ_REL) : share.end;
        if (begin < share.end) {
            *r = (neve_range){begin, neve_min(begin + chunk, share.end)};
            return 1;
        }
    }
    return 0;
}

/* The next units for this thread; 0 if there are none left. */
NEVE_INLINE int neve_take(neve_work *w, const neve_thread *th, neve_range *r)
{
    if (th->nt > 1)
        return neve_take_chunk(w, th, r);
    *r = (neve_range){0, w->total};
    return w->total > 0 && !w->tried++;
}

#ifdef NEVE_PROFILE
/* A clock for profiles: the processor's time stamp counter, or its like. */
NEVE_INLINE uint64_t neve_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#else
    return 0;
#endif
}
#endif

/* The empty asm keeps compilers from turning these loops back into calls of themselves. */
#ifndef NEVE_HOSTED
#if defined(_WIN32)
#define NEVE_LIBCALL
#else
#define NEVE_LIBCALL __attribute__((weak, used, visibility("hidden")))
#endif

void *memcpy(void *NEVE_RESTRICT to, const void *NEVE_RESTRICT from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int value, size_t n);
int memcmp(const void *a, const void *b, size_t n);

/* Windows' objects have no weak symbols: there only the first unit has the definitions. */
#if !defined(_WIN32) || !defined(NEVE_UNIT) || NEVE_UNIT == 0
typedef uint64_t neve_word __attribute__((aligned(1), may_alias));

NEVE_LIBCALL void *memcpy(void *NEVE_RESTRICT to, const void *NEVE_RESTRICT from, size_t n)
{
    char *d = (char *)to;
    const char *f = (const char *)from;
    for (; n >= 16; n -= 16, d += 16, f += 16) {
        neve_word x = ((const neve_word *)f)[0], y = ((const neve_word *)f)[1];
        ((neve_word *)d)[0] = x;
        ((neve_word *)d)[1] = y;
        __asm__ volatile("" ::: "memory");
    }
    for (; n; n--, d++, f++) {
        *d = *f;
        __asm__ volatile("" ::: "memory");
    }
    return to;
}

NEVE_LIBCALL void *memmove(void *to, const void *from, size_t n)
{
    char *d = (char *)to;
    const char *f = (const char *)from;
    if ((uintptr_t)d - (uintptr_t)f >= n)
        for (size_t i = 0; i < n; i++) {
            d[i] = f[i];
            __asm__ volatile("" ::: "memory");
        }
    else
        for (size_t i = n; i > 0; i--) {
            d[i - 1] = f[i - 1];
            __asm__ volatile("" ::: "memory");
        }
    return to;
}

NEVE_LIBCALL void *memset(void *to, int value, size_t n)
{
    char *d = (char *)to;
    uint64_t word = 0x0101010101010101ull * (unsigned char)value;
    for (; n >= 16; n -= 16, d += 16) {
        ((neve_word *)d)[0] = word;
        ((neve_word *)d)[1] = word;
        __asm__ volatile("" ::: "memory");
    }
    for (; n; n--, d++) {
        *d = (char)value;
        __asm__ volatile("" ::: "memory");
    }
    return to;
}

NEVE_LIBCALL int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *x = (const unsigned char *)a, *y = (const unsigned char *)b;
    for (size_t i = 0; i < n; i++) {
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
        __asm__ volatile("" ::: "memory");
    }
    return 0;
}
#endif

/* Android's compilers turn the barrier's addition into a call of their run-time library, which is not linked. */
#if defined(__aarch64__) && defined(__ANDROID__)
int32_t __aarch64_ldadd4_acq_rel(int32_t value, int32_t *at);

NEVE_LIBCALL int32_t __aarch64_ldadd4_acq_rel(int32_t value, int32_t *at)
{
    int32_t old, sum, failed;
    __asm__ volatile("1: ldaxr %w0, [%3]\n"
                     "   add %w1, %w0, %w4\n"
                     "   stlxr %w2, %w1, [%3]\n"
                     "   cbnz %w2, 1b"
                     : "=&r"(old), "=&r"(sum), "=&r"(failed)
                     : "r"(at), "r"(value)
                     : "memory");
    return old;
}
#endif
#endif

#endif
