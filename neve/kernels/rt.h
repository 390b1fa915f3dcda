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

/* Zero it before the first use; threads of one call share one. The two counters are on cache lines of their own. */
struct neve_barrier_state {
    int32_t arrived;
    int32_t pad0[15];
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
