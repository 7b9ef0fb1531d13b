/* Concord's C ABI for device plug-ins. SPDX-License-Identifier: Apache-2.0
 *
 * A plug-in is a shared object that exports concord_backend_entry(). It is loaded with RTLD_LOCAL and never unloaded.
 * Rules: every struct starts with its size, set by whoever allocates it; tables and structs only grow at the end; no C++ types and no exceptions
 * cross this line; a status other than CONCORD_OK leaves outputs undefined and fills *err; all memory is owned by whoever created it.
 * Tensors are contiguous, row-major, little-endian. T tokens, H query heads, G key/value heads, D head size, P cache rows, V vocabulary.
 * run() may return before the work is done; what it finds out later (an index out of range) is said by the next synchronize() of the stream, or download() on it
 * with ordinary host memory. Work on one stream is done in order; streams are ordered against each other by stream_wait() alone.
 * One device is used by one thread at a time. A device never works on another device's behalf: what it cannot do it refuses. */
#ifndef CONCORD_BACKEND_H
#define CONCORD_BACKEND_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define CONCORD_ABI_MAJOR 2u /* a different major is refused */
#define CONCORD_ABI_MINOR 1u /* a plug-in may be older or newer in minor; struct sizes tell what is there */

typedef enum { CONCORD_F32 = 0, CONCORD_F16 = 1, CONCORD_BF16 = 2, CONCORD_F64 = 3, CONCORD_I32 = 4, CONCORD_I8 = 5, CONCORD_U4 = 6 } concord_dtype;
typedef enum { CONCORD_OK = 0, CONCORD_UNSUPPORTED = 1, CONCORD_INVALID = 2, CONCORD_OUT_OF_MEMORY = 3, CONCORD_DEVICE_ERROR = 4, CONCORD_INTERNAL = 5 } concord_status;
typedef enum { CONCORD_WHY_NONE = 0, CONCORD_WHY_DTYPE, CONCORD_WHY_SHAPE, CONCORD_WHY_ALIGNMENT, CONCORD_WHY_MEMORY, CONCORD_WHY_ARCHITECTURE, CONCORD_WHY_NOT_BUILT, CONCORD_WHY_NOT_IMPLEMENTED } concord_why;
typedef enum { CONCORD_ALWAYS_IDENTICAL = 0, CONCORD_IDENTICAL_PER_CONFIGURATION = 1, CONCORD_RUN_TO_RUN_VARYING = 2 } concord_determinism;

/* Operators.        in[]                                                       out[]                      other
 * EMBEDDING         ids I32 [T]                                                y [T,K]                    weight [V,K]
 * RMSNORM           x [R,N], gain F32 [N]                                      y [R,N]                    eps: x * rsqrt(mean(x^2) + eps) * gain
 * LAYERNORM         x [R,N], gain F32 [N], shift F32 [N]                       y [R,N]                    eps
 * MATMUL            x [T,K], optional bias F32 [N], optional z [T,N]           y [T,N] = x W^T + bias     weight [N,K]; with z one of the flags
 *                                                                                                         CONCORD_PLUS: y = ADD(z, x W^T + bias),
 *                                                                                                         CONCORD_GATED: y = SWIGLU(z, x W^T + bias); these
 *                                                                                                         have the bits of the two operators one by one
 * ROPE              x [T,H,D], cos [P,D/2], sin [P,D/2], positions I32 [T]     y [T,H,D]                  pairs (i, i + D/2)
 * KV_APPEND         k [T,G,D], v [T,G,D], rows I32 [T]                         kc [P,G,D], vc [P,G,D]     row t goes to cache row rows[t], all distinct;
 *                                                                              (I8: ks, vs F32 [P,G])     an I8 cache also gets the scales of out[2] and out[3]
 * ATTENTION         q [T,H,D], kc [P,G,D], vc [P,G,D], rows I32 [T]            y [T,H,D]                  scale; causal: token t sees the rows of its sequence up
 *                   (I8: ks, vs F32 [P,G])                                                                to rows[t]; head h reads key/value head h / (H/G)
 * SWIGLU            gate [R,N], up [R,N]                                       y = gate / (1 + e^-gate) * up
 * GELU              x [R,N]                                                    y                          flag CONCORD_GELU_TANH
 * ADD               a, b of one shape                                          y = a + b
 * SOFTMAX           x [R,N]                                                    y [R,N] over the last axis
 * TOPK_ROUTING      logits [T,E]                                               weight F32 [T,k], expert I32 [T,k]   softmax over E, k largest, lower index first among equals,
 *                                                                                                         flag CONCORD_NORMALISE
 * ARGMAX            x [T,V]                                                    index I32 [T]              lowest index among equals, NaN after every number
 * SAMPLE            x [T,V], positions I32 [T]                                 index I32 [T]              seed, scale (1 / temperature, above 0): a draw from softmax(x scale), below
 * Activations (x, y, q, k, v, gate, up, a, b) share one dtype: F32, F16, BF16 or F64. cos and sin are F64 with F64 activations, else F32. The KV
 * cache may have another float dtype, or be I8: a head of a row then has one scale, max|x| / 127 in F32, and holds rint(x / scale), the quotient in F32,
 * to nearest even (0 where the scale is 0 or NaN; a head that is not finite gets a NaN scale); its value is the exact product of the two. `sequence_rows`
 * divides the cache among several sequences: row r belongs to sequence r / sequence_rows; 0: all rows are one sequence. In place: the output of RMSNORM, LAYERNORM, ROPE, SWIGLU, GELU, ADD and SOFTMAX may be in[0] itself, that of MATMUL z; any
 * other overlap of an output with an operand is refused. Values are read exactly, computed in `accumulate` (F32, or F64 with F64 activations), and rounded once on store.
 * SAMPLE computes in F64 whatever `accumulate` and the activations are. index[t] is the v with the largest score x[t,v] * scale + g, the lowest one among equals, a NaN
 * score after every number. g = -log(-log(u)), u = (k + 1/2) / 2^52, k the upper 52 of the 64 bits w1 * 2^32 + w0, where w0 and w1 are the first words of Philox4x32-10
 * with counter (v, 0, positions[t], 0) and key (seed mod 2^32, seed / 2^32). A position is any I32 that is not negative. */
typedef enum { CONCORD_OP_EMBEDDING = 0, CONCORD_OP_RMSNORM, CONCORD_OP_LAYERNORM, CONCORD_OP_MATMUL, CONCORD_OP_ROPE, CONCORD_OP_KV_APPEND, CONCORD_OP_ATTENTION, CONCORD_OP_SWIGLU, CONCORD_OP_GELU, CONCORD_OP_ADD, CONCORD_OP_SOFTMAX, CONCORD_OP_TOPK_ROUTING, CONCORD_OP_ARGMAX, CONCORD_OP_SAMPLE /* since 2.1 */, CONCORD_OP_COUNT } concord_op;
enum { CONCORD_GELU_TANH = 1u, CONCORD_NORMALISE = 2u, CONCORD_PLUS = 4u, CONCORD_GATED = 8u }; /* concord_call.flags */
enum { CONCORD_MAX_IN = 6, CONCORD_MAX_OUT = 4, CONCORD_MAX_RANK = 4 };

typedef struct concord_device concord_device; /* opaque, the plug-in's */
typedef struct concord_buffer concord_buffer; /* device memory */
typedef struct concord_weight concord_weight; /* a matrix uploaded and repacked for this device */
typedef struct concord_stream concord_stream; /* NULL is the default stream */

typedef struct concord_error { uint32_t struct_size, why; char message[248]; } concord_error; /* why: concord_why */

/* features: names separated by commas. Three of them declare arithmetic that is wider than "computed in accumulate": weights-bf16 (MATMUL rounds F32 and F16
 * weights to BF16), products-flushed (MATMUL may take subnormal inputs, products and sums as zero), tf32 (MATMUL and ATTENTION cut operands to 10 bits).
 * device-memory says that buffers do not lie in the host's memory: a benchmark then measures the device's own rates through this table. */
typedef struct concord_device_info {
  uint32_t struct_size, available;                                       /* available 0: `why` says what is missing */
  char id[32], name[128], vendor[64], architecture[64], driver[64];      /* id: "cpu:avx2", unique within the plug-in */
  char libraries[128], features[512], why[248];
  uint32_t compute_units, reserved; uint64_t memory_bytes;
} concord_device_info;

typedef struct concord_open_options { uint32_t struct_size, threads; } concord_open_options; /* threads 0: all that the device has */

typedef struct concord_tensor {
  uint32_t struct_size, dtype, rank, reserved;                           /* rank 0 with a NULL buffer: absent */
  int64_t dims[4];
  concord_buffer* buffer; uint64_t byte_offset;
} concord_tensor;

/* A weight matrix [rows = outputs, cols = inputs] in host memory. Its value is data (F32, F16, BF16, F64), data * scale[row] (I8, scales F32), or
 * (nibble - zero) * scale[row][col / group] (U4: two per byte, even column in the low nibble, ceil(cols/2) bytes a row; scales F16 and zeros U8
 * are [rows][ceil(cols/group)]; zeros NULL means 8). */
typedef struct concord_weight_desc {
  uint32_t struct_size, dtype; int64_t rows, cols;
  const void *data, *scales; const uint8_t* zeros; uint32_t group, activation_dtype; /* activation_dtype: what it will be multiplied with */
} concord_weight_desc;

typedef struct concord_call {
  uint32_t struct_size, op, n_in, n_out;
  concord_tensor in[CONCORD_MAX_IN], out[CONCORD_MAX_OUT];
  concord_weight* weight;
  int64_t sequence_rows;                                                 /* ATTENTION: cache rows of one sequence; 0: one sequence has them all */
  uint32_t accumulate, flags; double eps, scale;                         /* double, so that the float64 reference is not held back by them */
  uint64_t seed;                                                         /* SAMPLE; since 2.1: the call of a 2.0 host ends before it, and may be any other operator's */
} concord_call;
#define CONCORD_CALL_SIZE_2_0 offsetof(concord_call, seed)

/* What really ran. kernel names the code path and instruction set or library algorithm; fallbacks counts, since the device was opened, calls that
 * took another path than the device's own (it must not move in a conforming run). */
typedef struct concord_witness { uint32_t struct_size, determinism; uint64_t fallbacks; char kernel[112]; } concord_witness;

typedef struct concord_memory { uint32_t struct_size, reserved; uint64_t now, peak; } concord_memory; /* device memory that this device holds, and held at most since it was opened [bytes] */

typedef struct concord_backend {
  uint32_t struct_size, abi_major, abi_minor, reserved;
  const char *name, *version, *build;                                    /* "cpu", "0.1.0", compiler and flags that touch arithmetic */
  uint32_t (*device_count)(void);
  concord_status (*device_info)(uint32_t index, concord_device_info* info, concord_error* err);
  concord_status (*device_open)(uint32_t index, const concord_open_options* options, concord_device** device, concord_error* err);
  void (*device_close)(concord_device* device);
  concord_status (*buffer_create)(concord_device*, uint64_t bytes, concord_buffer** buffer, concord_error* err); /* zero-filled */
  void (*buffer_destroy)(concord_device*, concord_buffer*);
  concord_status (*upload)(concord_device*, concord_stream*, concord_buffer*, uint64_t offset, const void* host, uint64_t bytes, concord_error* err);
  concord_status (*download)(concord_device*, concord_stream*, const concord_buffer*, uint64_t offset, void* host, uint64_t bytes, concord_error* err);
  concord_status (*weight_create)(concord_device*, const concord_weight_desc*, concord_weight** weight, concord_error* err); /* copies what it needs */
  void (*weight_destroy)(concord_device*, concord_weight*);
  concord_status (*supports)(concord_device*, const concord_call*, concord_error* err);  /* OK, UNSUPPORTED, or INVALID where no device could; buffers and weight may be NULL */
  concord_status (*run)(concord_device*, concord_stream*, const concord_call*, concord_witness* witness, concord_error* err); /* witness may be NULL */
  concord_status (*stream_create)(concord_device*, concord_stream** stream, concord_error* err);
  void (*stream_destroy)(concord_device*, concord_stream*);
  concord_status (*synchronize)(concord_device*, concord_stream*, concord_error* err);    /* waits; reports errors of earlier work */
  /* Since 2.1; each may be NULL, and a table of 2.0 ends here. */
  concord_status (*host_create)(concord_device*, uint64_t bytes, void** host, concord_error* err); /* page-locked host memory: copies between it and a buffer on a stream other than NULL return at once */
  void (*host_destroy)(concord_device*, void* host);
  concord_status (*stream_wait)(concord_device*, concord_stream* waiting, concord_stream* awaited, concord_error* err); /* what is queued on `waiting` from now on begins when all that is now on `awaited` has ended */
  concord_status (*weight_digest)(concord_device*, const concord_weight*, uint8_t digest[32], concord_error* err);      /* of the weight as it lies in device memory, computed there: docs/weight-digest.md */
  concord_status (*memory)(concord_device*, concord_memory* memory, concord_error* err);
} concord_backend;
#define CONCORD_BACKEND_SIZE_2_0 offsetof(concord_backend, host_create)

/* The one exported symbol. Returns NULL and fills *err when the host's major version is not served. */
const concord_backend* concord_backend_entry(uint32_t host_major, uint32_t host_minor, concord_error* err);
typedef const concord_backend* (*concord_backend_entry_fn)(uint32_t, uint32_t, concord_error*);

#ifdef __cplusplus
}
#endif
#endif
