/* Dot products of a row of weights with one or several activations, for each form of weights.
 *
 * Written with the vector extensions of GCC and Clang, so that one source serves x86 and ARM.
 * Activations and sums are float32 whatever the weights are.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define MAX_BLOCK 8 /* activations that share one pass over a row of weights */
#define GROUP 32    /* weights that share a scale */
#define MAX_TOKENS 64 /* in one call */
#define AHEAD 2048  /* bytes: where to fetch weights from before they are needed */

typedef float v8f __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t v8i __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint32_t v8u __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint8_t v8b __attribute__((vector_size(8), aligned(1), may_alias));
typedef int8_t v8c __attribute__((vector_size(8), aligned(1), may_alias));
typedef uint8_t v16b __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t v8h __attribute__((vector_size(16), aligned(2), may_alias));
typedef _Float16 v8half __attribute__((vector_size(16), aligned(2), may_alias));

/* The last two are in the layout of side_by_side.h. */
enum { F32 = 0, BF16 = 1, Q8_0 = 2, Q4_1 = 3, Q8_0_X16 = 4, Q4_1_X16 = 5 };

/* A matrix of weights, one row for each output. Mirrored by native.library.Matrix. */
typedef struct {
    int32_t kind;
    int32_t rows;
    int32_t cols;
    int32_t scale_stride;   /* scales in a row: groups, rounded up to 8 */
    const void *values;     /* [rows][cols], or [rows][cols / 2] bytes for Q4_1 */
    const _Float16 *scales; /* Q8_0, Q4_1: [rows][scale_stride] */
    const _Float16 *minima; /* Q4_1: likewise */
    const float *bias;      /* [rows] or NULL */
} Matrix;

/* Sums of the lanes of n vectors, where n is 1, 2, 4 or 8. However many are summed together, the
 * order of additions in each is the same: neighbours, pairs of neighbours, halves. */
INLINE void add_lanes(const v8f *v, int n, float *out) {
#ifdef __AVX2__
    if (n == 8) {
        __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
        __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
        __m256 lower = _mm256_permute2f128_ps(a, b, 0x20), upper = _mm256_permute2f128_ps(a, b, 0x31);
        _mm256_storeu_ps(out, _mm256_add_ps(lower, upper));
        return;
    }
    if (n == 4) {
        __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
        _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)));
        return;
    }
#endif
    for (int i = 0; i < n; i++)
        out[i] = ((v[i][0] + v[i][1]) + (v[i][2] + v[i][3])) +
                 ((v[i][4] + v[i][5]) + (v[i][6] + v[i][7]));
}

INLINE float sum8(v8f v) {
    float out;
    add_lanes(&v, 1, &out);
    return out;
}

INLINE v8f splat(float x) { return (v8f){x, x, x, x, x, x, x, x}; }

/* a * b + c, rounded once where the CPU can. Never left to the compiler: it fuses some copies of a
 * function and not others, and then a sequence's company decides on its last bits. */
INLINE v8f fma8(v8f a, v8f b, v8f c) {
#ifdef __FMA__
    return (v8f)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_FEATURE_FMA)
    for (int i = 0; i < 8; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#else
    return a * b + c;
#endif
}

INLINE v8f load_bf16(const uint16_t *p) {
    v8u wide = __builtin_convertvector(*(const v8h *)p, v8u) << 16;
    return (v8f)wide;
}

INLINE v8f load_half(const _Float16 *p) {
    return __builtin_convertvector(*(const v8half *)p, v8f);
}

/* Bytes to floats by intrinsics, as GCC takes the general conversion apart byte by byte. */
INLINE v8f load_i8(const int8_t *p) {
#ifdef __AVX2__
    return (v8f)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
#else
    return __builtin_convertvector(__builtin_convertvector(*(const v8c *)p, v8i), v8f);
#endif
}

INLINE v8f from_bytes(v16b b, int upper) {
#ifdef __AVX2__
    __m128i half = upper ? _mm_unpackhi_epi64((__m128i)b, (__m128i)b) : (__m128i)b;
    return (v8f)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(half));
#else
    v8b half = upper ? __builtin_shufflevector(b, b, 8, 9, 10, 11, 12, 13, 14, 15)
                     : __builtin_shufflevector(b, b, 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_convertvector(__builtin_convertvector(half, v8i), v8f);
#endif
}

/* e**x to about 2 units in the last place; Cephes' expf. */
INLINE v8f exp8(v8f x) {
    v8f high = splat(88.3762626647949f), low = splat(-87.3365447504019f);
    v8i over = x > high, under = x < low;
    x = (v8f)(((v8i)high & over) | ((v8i)x & ~over));
    x = (v8f)(((v8i)low & under) | ((v8i)x & ~under));
    v8f n = x * splat(1.44269504088896341f);
    v8f rounder = splat(12582912.0f); /* 1.5 * 2**23: adding it rounds to an integer */
    n = (n + rounder) - rounder;
    x = fma8(n, splat(-0.693359375f), x);
    x = fma8(n, splat(2.12194440e-4f), x);
    v8f y = splat(1.9875691500e-4f);
    y = fma8(y, x, splat(1.3981999507e-3f));
    y = fma8(y, x, splat(8.3334519073e-3f));
    y = fma8(y, x, splat(4.1665795894e-2f));
    y = fma8(y, x, splat(1.6666665459e-1f));
    y = fma8(y, x, splat(5.0000001201e-1f));
    y = fma8(y, x * x, x + splat(1.0f));
    v8i power = (__builtin_convertvector(n, v8i) + 127) << 23;
    return y * (v8f)power;
}

INLINE float silu(float x) { return x / (1.0f + expf(-x)); }

INLINE v8f silu8(v8f x) { return x / (splat(1) + exp8(-x)); }

/* Each kernel: y[i] = row . x[i] for i < n, where n is a constant after inlining. */

INLINE void dot_f32(const float *row, int cols, const float *x, int stride, int n, float *y) {
    v8f sums[MAX_BLOCK][2];
    for (int i = 0; i < n; i++) sums[i][0] = sums[i][1] = splat(0);
    int c = 0;
    for (; c + 16 <= cols; c += 16) {
        __builtin_prefetch((const char *)(row + c) + AHEAD);
        v8f w0 = *(const v8f *)(row + c), w1 = *(const v8f *)(row + c + 8);
        for (int i = 0; i < n; i++) {
            const float *p = x + (size_t)i * stride + c;
            sums[i][0] = fma8(w0, *(const v8f *)p, sums[i][0]);
            sums[i][1] = fma8(w1, *(const v8f *)(p + 8), sums[i][1]);
        }
    }
    for (; c < cols; c += 8) {
        v8f w = *(const v8f *)(row + c);
        for (int i = 0; i < n; i++)
            sums[i][0] = fma8(w, *(const v8f *)(x + (size_t)i * stride + c), sums[i][0]);
    }
    v8f both[MAX_BLOCK];
    for (int i = 0; i < n; i++) both[i] = sums[i][0] + sums[i][1];
    add_lanes(both, n, y);
}

INLINE void dot_bf16(const uint16_t *row, int cols, const float *x, int stride, int n, float *y) {
    v8f sums[MAX_BLOCK][2];
    for (int i = 0; i < n; i++) sums[i][0] = sums[i][1] = splat(0);
    int c = 0;
    for (; c + 16 <= cols; c += 16) {
        __builtin_prefetch((const char *)(row + c) + AHEAD);
        v8f w0 = load_bf16(row + c), w1 = load_bf16(row + c + 8);
        for (int i = 0; i < n; i++) {
            const float *p = x + (size_t)i * stride + c;
            sums[i][0] = fma8(w0, *(const v8f *)p, sums[i][0]);
            sums[i][1] = fma8(w1, *(const v8f *)(p + 8), sums[i][1]);
        }
    }
    for (; c < cols; c += 8) {
        v8f w = load_bf16(row + c);
        for (int i = 0; i < n; i++)
            sums[i][0] = fma8(w, *(const v8f *)(x + (size_t)i * stride + c), sums[i][0]);
    }
    v8f both[MAX_BLOCK];
    for (int i = 0; i < n; i++) both[i] = sums[i][0] + sums[i][1];
    add_lanes(both, n, y);
}

#include "quantized.h"
#include "side_by_side.h"

#define DISPATCH(n)                                                                             \
    switch (m->kind) {                                                                          \
    case F32:                                                                                   \
        dot_f32((const float *)m->values + r * m->cols, m->cols, a->x + i * a->stride,          \
                a->stride, n, out + i);                                                         \
        break;                                                                                  \
    case BF16:                                                                                  \
        dot_bf16((const uint16_t *)m->values + r * m->cols, m->cols, a->x + i * a->stride,      \
                 a->stride, n, out + i);                                                        \
        break;                                                                                  \
    case Q8_0:                                                                                  \
        dot_q8((const int8_t *)m->values + r * m->cols, m->scales + r * m->scale_stride,        \
               m->cols, a, i, n, out + i);                                                      \
        break;                                                                                  \
    default:                                                                                    \
        dot_q4((const uint8_t *)m->values + r * m->cols / 2, m->scales + r * m->scale_stride,   \
               m->minima + r * m->scale_stride, m->cols, a, i, n, out + i);                     \
    }                                                                                           \
    i += n;

/* out[i] = row r of the matrix . activation i, for i < n. The sum over a row is the same however
 * many activations share the pass: what a sequence gets does not depend on its company. */
static void dot_row(const Matrix *m, size_t r, const Activations *a, int n, float *out) {
    for (size_t i = 0; i < (size_t)n;) {
        if (n - i >= 8) { DISPATCH(8) }
        else if (n - i >= 4) { DISPATCH(4) }
        else if (n - i >= 2) { DISPATCH(2) }
        else { DISPATCH(1) }
    }
    if (m->bias)
        for (int i = 0; i < n; i++) out[i] += m->bias[r];
}

/* y[i][k] = row r + k . activation i, for k < rows and i < n; rows is 16, unless there are no more. */
static void dot_rows(const Matrix *m, size_t r, int rows, const Activations *a, int n,
                     float (*y)[SIDE]) {
    if (is_side(m)) {
        dot_side(m, r, a, n, y);
        return;
    }
    for (int k = 0; k < rows; k++) {
        float one[MAX_TOKENS];
        dot_row(m, r + k, a, n, one);
        for (int i = 0; i < n; i++) y[i][k] = one[i];
    }
}

/* Row r of the matrix as float32. */
static void read_row(const Matrix *m, size_t r, float *out) {
    if (is_side(m)) {
        read_side_row(m, r, out);
    } else if (m->kind == F32) {
        memcpy(out, (const float *)m->values + r * m->cols, sizeof(float) * m->cols);
    } else if (m->kind == BF16) {
        const uint16_t *row = (const uint16_t *)m->values + r * m->cols;
        for (int c = 0; c < m->cols; c += 8) *(v8f *)(out + c) = load_bf16(row + c);
    } else {
        for (int g = 0; g < m->cols / GROUP; g++) {
            v8f d = splat((float)m->scales[r * m->scale_stride + g]);
            float *o = out + g * GROUP;
            if (m->kind == Q8_0) {
                const int8_t *q = (const int8_t *)m->values + r * m->cols + g * GROUP;
                for (int c = 0; c < GROUP; c += 8) *(v8f *)(o + c) = d * load_i8(q + c);
            } else {
                v8f low_end = splat((float)m->minima[r * m->scale_stride + g]);
                v16b b = *(const v16b *)((const uint8_t *)m->values + (r * m->cols + g * GROUP) / 2);
                v16b low = b & 15, high = b >> 4;
                *(v8f *)o = d * from_bytes(low, 0) + low_end;
                *(v8f *)(o + 8) = d * from_bytes(low, 1) + low_end;
                *(v8f *)(o + 16) = d * from_bytes(high, 0) + low_end;
                *(v8f *)(o + 24) = d * from_bytes(high, 1) + low_end;
            }
        }
    }
}
