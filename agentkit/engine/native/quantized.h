/* Dot products with quantised weights, and the activations in the form that they take.
 *
 * There are two forms of each: for AVX2, and for anything else. side_by_side.h has a third.
 */
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
/* scale[i][j] = scale of group g0 + j, times the step of activation i there. */
INLINE void scale_groups(const _Float16 *scales, const Activations *a, int first, int g0, int n,
                         float scale[][8]) {
    v8f scale8 = load_half(scales + g0);
    for (int i = 0; i < n; i++) {
        const float *steps = a->steps + (size_t)(first + i) * a->sums_stride;
        *(v8f *)scale[i] = scale8 * *(const v8f *)(steps + g0);
    }
}

/* Quantised weights against activations in integers: sixteen products an instruction. The
 * activations have sixteen bits a group, so that their rounding is far below bfloat16's. */

INLINE v8f madd_group(__m256i w0, __m256i w1, const int16_t *a) {
    __m256i p = _mm256_madd_epi16(w0, _mm256_loadu_si256((const __m256i *)a));
    __m256i q = _mm256_madd_epi16(w1, _mm256_loadu_si256((const __m256i *)(a + 16)));
    return (v8f)_mm256_cvtepi32_ps(_mm256_add_epi32(p, q));
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
                sums[i] = fma8(splat(scale[i][j]),
                               madd_group(w0, w1, x + (size_t)i * a->fixed_stride + (g0 + j) * GROUP),
                               sums[i]);
        }
    }
    add_lanes(sums, n, y);
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
            sums[i] = fma8(minimum8, *(const v8f *)(a->sums + (size_t)(first + i) * a->sums_stride + g0),
                           sums[i]);
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
                sums[i] = fma8(each, (v8f)_mm256_cvtepi32_ps(s), sums[i]);
            }
        }
    }
    add_lanes(sums, n, y);
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
    add_lanes(sums, n, y);
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
    add_lanes(sums, n, y);
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

