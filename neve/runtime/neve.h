/* neve.h: what a compiled model and its host agree on.  License: BSD-3-Clause.
 *
 * A model NAME is one header, one C file (no libc, no allocation, no globals that change) and one file of weights.
 *
 *     size_t      NAME_context_size(void);    bytes of memory that a context needs; the host provides them, 64-byte aligned
 *     int         NAME_init(NAME *ctx, const void *weights, size_t size);        size: exactly that of the weights file
 *     int         NAME_forward(NAME *ctx, const NAME_forward_io *io, const neve_parallel *p);    likewise each other method
 *     void        NAME_reset(NAME *ctx);      all state back to its initial content
 *     void       *NAME_state(NAME *ctx, int index);    a state tensor in place; only models that have state have this
 *     const char *NAME_strerror(int code);
 *
 * Weights: 64-byte aligned, only read, must outlive the context, may be shared by any number of contexts and threads. The
 * file begins with a hash of all of it, which the code knows: NAME_init returns NEVE_BAD_WEIGHTS for the weights of another
 * model or target, of whatever size. It does not read the rest, so it does not notice damage behind these 8 bytes.
 * Contexts are independent of each other; calls on one context must not overlap in time.
 * Functions return NEVE_OK or an error code; a call that is refused has written nothing.
 *
 * State: index is one of the NAME_STATE_<name> of the header, which has the dtype and shape of each. Between calls the
 * host may read it and write it: settings that the model reads at run time, weights that were kept changeable, and what
 * one call leaves for the next. NAME_reset gives all of it its initial content.
 *
 * NAME_<method>_io holds, in this order, each in a slot of 8 bytes (of the pointer's size on 32-bit targets for pointers):
 * a const pointer for each input, a pointer for each output, an int64_t for each symbolic size, void *workspace and
 * int64_t workspace_size (used only if sizes have no upper bound: see the header; else NULL and 0). If data decide sizes
 * of outputs, int64_t *sizes follows: the call writes them there, in the order that the header says beside the most that
 * each may be; the memory of such an output is for the most, and its elements come first. Where nothing bounds such a size
 * N, the call says by most_N for how many there is memory, and NEVE_TOO_LONG that it takes more. Tensors are contiguous,
 * row-major, aligned to their element; outputs must not overlap inputs or each other. bool is one byte, 0 or 1; float16 and
 * bfloat16 are their bits. A pointer to a tensor without elements may be anything. A workspace is 64-byte aligned.
 */
#ifndef NEVE_H
#define NEVE_H
#include <stddef.h>
#include <stdint.h>

#define NEVE_ABI 1

#if defined(_WIN32)
#define NEVE_API __declspec(dllexport)
#elif defined(__wasm__)
#define NEVE_API __attribute__((visibility("default"), used))
#else
#define NEVE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* How a host lends threads to a call. NULL in place of it: the calling thread works alone. Results are the same bits.
 * run calls body(arg, tid, nt) once for each tid in 0..nt-1, all at the same time on different threads (they wait for each
 * other inside), for some nt of its choice in 1..threads, and returns when all have returned. nt == 1 is always allowed.
 * yield (may be NULL) is called when a thread has waited long for another. Both get host as it is here. */
typedef struct neve_parallel {
    void *host;
    int32_t threads;
    void (*run)(void *host, void (*body)(void *arg, int32_t tid, int32_t nt), void *arg);
    void (*yield)(void *host);
} neve_parallel;

enum {
    NEVE_OK = 0,
    NEVE_BAD_SIZE = 1,    /* a symbolic size is out of its range, or the sizes contradict each other */
    NEVE_BAD_POINTER = 2, /* a pointer (context, weights, io, tensor, workspace) is NULL or not aligned */
    NEVE_BAD_WEIGHTS = 3, /* the weights are not those that this code was generated for */
    NEVE_NOT_READY = 4,   /* the context was not initialised */
    NEVE_TOO_LONG = 5,    /* a length that data decide is more than there is memory for: sizes says how many it is */
    NEVE_RAISED = 16      /* the model raised; NEVE_RAISED + i: the i-th of the messages in the header */
};

#ifdef __cplusplus
}
#endif
#endif
