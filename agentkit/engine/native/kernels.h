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
#define AHEAD 2048  /* bytes: where to fetch weights from before they are needed */

typedef float v8f __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t v8i __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint32_t v8u __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint8_t v8b __attribute__((vector_size(8), aligned(1), may_alias));
typedef int8_t v8c __attribute__((vector_size(8), aligned(1), may_alias));
typedef uint8_t v16b __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint16_t v8h __attribute__((vector_size(16), aligned(2), may_alias));
typedef _Float16 v8half __attribute__((vector_size(16), aligned(2), may_alias));

enum { F32 = 0, BF16 = 1, Q8_0 = 2, Q4_1 = 3 };

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

INLINE float sum8(v8f v) {
    return ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]));
}

INLINE v8f splat(float x) { return (v8f){x, x, x, x, x, x, x, x}; }

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
    x = x - n * splat(0.693359375f);
    x = x - n * splat(-2.12194440e-4f);
    v8f y = splat(1.9875691500e-4f);
    y = y * x + splat(1.3981999507e-3f);
    y = y * x + splat(8.3334519073e-3f);
    y = y * x + splat(4.1665795894e-2f);
    y = y * x + splat(1.6666665459e-1f);
    y = y * x + splat(5.0000001201e-1f);
    y = y * x * x + x + splat(1.0f);
    v8i power = (__builtin_convertvector(n, v8i) + 127) << 23;
    return y * (v8f)power;
}

INLINE float silu(float x) { return x / (1.0f + expf(-x)); }

/* Each kernel: y[i] = row . x[i] for i < n, where n is a constant after inlining. */

INLINE void dot_f32(const float *row, int cols, const float *x, int stride, int n, float *y) {
    v8f sums[MAX_BLOCK][2];
    for (int i = 0; i < n; i++) sums[i][0] = sums[i][1] = splat(0);
    int c = 0;
    for (; c + 16 <= cols; c += 16) {
        __builtin_prefetch((const char *)(row + c) + AHEAD);
        v8f w0 = *(const v8f *)(row + c), w1 = *(const v8f *)(row + c + 8);
        for (int i = 0; i < n; i++) {
            sums[i][0] += w0 * *(const v8f *)(x + (size_t)i * stride + c);
            sums[i][1] += w1 * *(const v8f *)(x + (size_t)i * stride + c + 8);
        }
    }
    for (; c < cols; c += 8) {
        v8f w = *(const v8f *)(row + c);
        for (int i = 0; i < n; i++) sums[i][0] += w * *(const v8f *)(x + (size_t)i * stride + c);
    }
    for (int i = 0; i < n; i++) y[i] = sum8(sums[i][0] + sums[i][1]);
}

INLINE void dot_bf16(const uint16_t *row, int cols, const float *x, int stride, int n, float *y) {
    v8f sums[MAX_BLOCK][2];
    for (int i = 0; i < n; i++) sums[i][0] = sums[i][1] = splat(0);
    int c = 0;
    for (; c + 16 <= cols; c += 16) {
        __builtin_prefetch((const char *)(row + c) + AHEAD);
        v8f w0 = load_bf16(row + c), w1 = load_bf16(row + c + 8);
        for (int i = 0; i < n; i++) {
            sums[i][0] += w0 * *(const v8f *)(x + (size_t)i * stride + c);
            sums[i][1] += w1 * *(const v8f *)(x + (size_t)i * stride + c + 8);
        }
    }
    for (; c < cols; c += 8) {
        v8f w = load_bf16(row + c);
        for (int i = 0; i < n; i++) sums[i][0] += w * *(const v8f *)(x + (size_t)i * stride + c);
    }
    for (int i = 0; i < n; i++) y[i] = sum8(sums[i][0] + sums[i][1]);
}

/* Activations as the kernels take them. */
typedef struct {
    const float *x;        /* [n][stride] */
    const float *sums;     /* [n][sums_stride]: of each group of 32, zero past the last */
    const int16_t *fixed;  /* [n][fixed_stride]: x = step * fixed */
    const int16_t *pairs;  /* [n][fixed_stride]: the same in the order that Q4_1 is unpacked in */
    const float *steps;    /* [n][sums_stride]: of each group, zero past the last */
    int stride, sums_stride, fixed_stride;
} Activations;

#ifdef __AVX2__
/* Quantised weights against activations in integers: sixteen products an instruction. The
 * activations have sixteen bits a group, so that their rounding is far below bfloat16's. */

INLINE v8f madd_group(__m256i w0, __m256i w1, const int16_t *a) {
    __m256i p = _mm256_madd_epi16(w0, _mm256_loadu_si256((const __m256i *)a));
    __m256i q = _mm256_madd_epi16(w1, _mm256_loadu_si256((const __m256i *)(a + 16)));
    return (v8f)_mm256_cvtepi32_ps(_mm256_add_epi32(p, q));
}

/* scale[i][j] = scale of group g0 + j, times the step of activation i there. */
INLINE void scale_groups(const _Float16 *scales, const Activations *a, int first, int g0, int n,
                         float scale[][8]) {
    v8f scale8 = load_half(scales + g0);
    for (int i = 0; i < n; i++) {
        const float *steps = a->steps + (size_t)(first + i) * a->sums_stride;
        *(v8f *)scale[i] = scale8 * *(const v8f *)(steps + g0);
    }
}

INLINE void dot_q8(const int8_t *row, const _Float16 *scales, int cols, const Activations *a,
                   int first, int n, float *y) {
    v8f sums[MAX_BLOCK];
    float scale[MAX_BLOCK][8];
    for (int i = 0; i < n; i++) sums[i] = splat(0);
    int groups = cols / GROUP;
    const int16_t *x = a->fixed + (size_t)first * a->fixed_stride;
    for (int g0 = 0; g0 < groups; g0 += 8) {
        scale_groups(scales, a, first, g0, n, scale);
        int end = groups - g0 < 8 ? groups - g0 : 8;
        for (int j = 0; j < end; j++) {
            const int8_t *q = row + (size_t)(g0 + j) * GROUP;
            __builtin_prefetch(q + AHEAD);
            __m256i w0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)q));
            __m256i w1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(q + 16)));
            for (int i = 0; i < n; i++)
                sums[i] += splat(scale[i][j]) *
                           madd_group(w0, w1, x + (size_t)i * a->fixed_stride + (g0 + j) * GROUP);
        }
    }
    for (int i = 0; i < n; i++) y[i] = sum8(sums[i]);
}

/* w = scale * q + minimum. The minima meet sums of the activations, which are made beforehand.
 *
 * Two groups are unpacked at once, in sixteen lanes of two bytes: four vectors, which hold the
 * weights 2k, 16 + 2k, 2k + 1 and 17 + 2k of the first group, then of the second (k < 8). */
INLINE void dot_q4(const uint8_t *row, const _Float16 *scales, const _Float16 *minima, int cols,
                   const Activations *a, int first, int n, float *y) {
    const __m256i low = _mm256_set1_epi16(15);
    v8f sums[MAX_BLOCK];
    float scale[MAX_BLOCK][8];
    for (int i = 0; i < n; i++) sums[i] = splat(0);
    int groups = cols / GROUP;
    const int16_t *x = a->pairs + (size_t)first * a->fixed_stride;
    for (int g0 = 0; g0 < groups; g0 += 8) {
        scale_groups(scales, a, first, g0, n, scale);
        v8f minimum8 = load_half(minima + g0);
        for (int i = 0; i < n; i++)
            sums[i] += minimum8 * *(const v8f *)(a->sums + (size_t)(first + i) * a->sums_stride + g0);
        int end = groups - g0 < 8 ? groups - g0 : 8;
        for (int j = 0; j < end; j += 2) {
            const uint8_t *q = row + (size_t)(g0 + j) * (GROUP / 2);
            __builtin_prefetch(q + AHEAD);
            /* An odd last group stands alone: beyond it lies the next row. */
            __m256i both = j + 1 < end ? _mm256_loadu_si256((const __m256i *)q)
                                       : _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)q));
            __m256i w0 = _mm256_and_si256(both, low);
            __m256i w1 = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
            __m256i w2 = _mm256_and_si256(_mm256_srli_epi16(both, 8), low);
            __m256i w3 = _mm256_srli_epi16(both, 12);
            __m256i lanes = _mm256_setr_epi32(j, j, j, j, j + 1, j + 1, j + 1, j + 1);
            for (int i = 0; i < n; i++) {
                const int16_t *p = x + (size_t)i * a->fixed_stride + (size_t)(g0 + j) * GROUP;
                __m256i s = _mm256_madd_epi16(w0, _mm256_loadu_si256((const __m256i *)p));
                __m256i t = _mm256_madd_epi16(w1, _mm256_loadu_si256((const __m256i *)(p + 16)));
                __m256i u = _mm256_madd_epi16(w2, _mm256_loadu_si256((const __m256i *)(p + 32)));
                __m256i v = _mm256_madd_epi16(w3, _mm256_loadu_si256((const __m256i *)(p + 48)));
                s = _mm256_add_epi32(_mm256_add_epi32(s, t), _mm256_add_epi32(u, v));
                v8f each = (v8f)_mm256_permutevar8x32_ps(_mm256_loadu_ps(scale[i]), lanes);
                sums[i] += each * (v8f)_mm256_cvtepi32_ps(s);
            }
        }
    }
    for (int i = 0; i < n; i++) y[i] = sum8(sums[i]);
}
#else
INLINE void dot_q8(const int8_t *row, const _Float16 *scales, int cols, const Activations *a,
                   int first, int n, float *y) {
    const float *x = a->x + (size_t)first * a->stride;
    v8f sums[MAX_BLOCK];
    for (int i = 0; i < n; i++) sums[i] = splat(0);
    int groups = cols / GROUP;
    for (int g0 = 0; g0 < groups; g0 += 8) {
        v8f scale8 = load_half(scales + g0);
        float scale[8];
        memcpy(scale, &scale8, sizeof scale);
        int end = groups - g0 < 8 ? groups - g0 : 8;
        for (int j = 0; j < end; j++) {
            const int8_t *q = row + (size_t)(g0 + j) * GROUP;
            v8f d = splat(scale[j]);
            v8f w0 = load_i8(q), w1 = load_i8(q + 8), w2 = load_i8(q + 16), w3 = load_i8(q + 24);
            for (int i = 0; i < n; i++) {
                const float *p = x + (size_t)i * a->stride + (g0 + j) * GROUP;
                v8f t = w0 * *(const v8f *)p + w1 * *(const v8f *)(p + 8);
                t += w2 * *(const v8f *)(p + 16);
                t += w3 * *(const v8f *)(p + 24);
                sums[i] += d * t;
            }
        }
    }
    for (int i = 0; i < n; i++) y[i] = sum8(sums[i]);
}

/* w = scale * q + minimum. The minima meet sums of the activations, which are made beforehand. */
INLINE void dot_q4(const uint8_t *row, const _Float16 *scales, const _Float16 *minima, int cols,
                   const Activations *a, int first, int n, float *y) {
    const float *x = a->x + (size_t)first * a->stride;
    const float *group_sums = a->sums + (size_t)first * a->sums_stride;
    v8f sums[MAX_BLOCK];
    for (int i = 0; i < n; i++) sums[i] = splat(0);
    int groups = cols / GROUP;
    for (int g0 = 0; g0 < groups; g0 += 8) {
        v8f scale8 = load_half(scales + g0), minimum8 = load_half(minima + g0);
        float scale[8];
        memcpy(scale, &scale8, sizeof scale);
        for (int i = 0; i < n; i++)
            sums[i] += minimum8 * *(const v8f *)(group_sums + (size_t)i * a->sums_stride + g0);
        int end = groups - g0 < 8 ? groups - g0 : 8;
        for (int j = 0; j < end; j++) {
            v16b bytes = *(const v16b *)(row + (size_t)(g0 + j) * (GROUP / 2));
            v16b low = bytes & 15, high = bytes >> 4;
            v8f d = splat(scale[j]);
            v8f w0 = from_bytes(low, 0), w1 = from_bytes(low, 1);
            v8f w2 = from_bytes(high, 0), w3 = from_bytes(high, 1);
            for (int i = 0; i < n; i++) {
                const float *p = x + (size_t)i * a->stride + (g0 + j) * GROUP;
                v8f t = w0 * *(const v8f *)p + w1 * *(const v8f *)(p + 8);
                t += w2 * *(const v8f *)(p + 16);
                t += w3 * *(const v8f *)(p + 24);
                sums[i] += d * t;
            }
        }
    }
    for (int i = 0; i < n; i++) y[i] = sum8(sums[i]);
}
#endif

/* Sums and fixed-point form of n activations, by groups. */
static void prepare(const float *x, int n, float *sums, int16_t *fixed, int16_t *pairs,
                    float *steps, int stride) {
    int groups = n / GROUP;
    for (int g = 0; g < groups; g++) {
        const float *p = x + g * GROUP;
        sums[g] = sum8((*(const v8f *)p + *(const v8f *)(p + 8)) +
                       (*(const v8f *)(p + 16) + *(const v8f *)(p + 24)));
#ifdef __AVX2__
        const __m256 sign = _mm256_set1_ps(-0.0f);
        __m256 most = _mm256_andnot_ps(sign, _mm256_loadu_ps(p));
        for (int c = 8; c < GROUP; c += 8)
            most = _mm256_max_ps(most, _mm256_andnot_ps(sign, _mm256_loadu_ps(p + c)));
        float largest = 0;
        for (int c = 0; c < 8; c++) largest = ((v8f)most)[c] > largest ? ((v8f)most)[c] : largest;
        /* A NaN or an infinity is passed on through the step. */
        float step = largest / 32767.0f, inverse = step > 0 ? 1.0f / step : 0;
        steps[g] = step;
        for (int c = 0; c < GROUP; c += 16) {
            __m256i a = _mm256_cvtps_epi32(_mm256_loadu_ps(p + c) * splat(inverse));
            __m256i b = _mm256_cvtps_epi32(_mm256_loadu_ps(p + c + 8) * splat(inverse));
            __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
            _mm256_storeu_si256((__m256i *)(fixed + g * GROUP + c), packed);
        }
#endif
    }
    for (int g = groups; g < stride; g++) sums[g] = steps[g] = 0;
#ifdef __AVX2__
    for (int g = 0; g < groups; g++) {
        const int16_t *f = fixed + g * GROUP;
        int16_t *p = pairs + g / 2 * 2 * GROUP + g % 2 * 8;
        for (int k = 0; k < 8; k++) {
            p[k] = f[2 * k];
            p[16 + k] = f[16 + 2 * k];
            p[32 + k] = f[2 * k + 1];
            p[48 + k] = f[17 + 2 * k];
        }
    }
    if (groups % 2)
        for (int k = 0; k < 64; k++)
            if (k % 16 >= 8) pairs[groups / 2 * 2 * GROUP + k] = 0;
#endif
}

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

/* Row r of the matrix as float32. */
static void read_row(const Matrix *m, size_t r, float *out) {
    if (m->kind == F32) {
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
