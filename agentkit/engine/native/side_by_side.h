/* Quantised weights with sixteen rows side by side, for AVX-512 with VNNI.
 *
 * Each row has a lane of its own, so that nothing is left to be added up across lanes, and what
 * is unpacked serves all activations. Within a block of sixteen rows the bytes are laid out so that
 * every word of a lane gives two weights that are neighbours: the activations stay as they are.
 *
 * Values: [blocks][groups][words][16 rows][4 bytes]. Scales and minima: [blocks][stride][16 rows].
 */
#if defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VNNI__)
#define WIDE 1
#else
#define WIDE 0
#endif

#define SIDE 16

/* Weights in the order of a word's bytes; for four bits, of their low and high halves. */
static const int ORDER_Q8[4] = {0, 2, 1, 3}, ORDER_Q4[8] = {0, 2, 4, 6, 1, 3, 5, 7};

static int is_side(const Matrix *m) { return m->kind == Q8_0_X16 || m->kind == Q4_1_X16; }

static int word_weights(const Matrix *m) { return m->kind == Q8_0_X16 ? 4 : 8; }

/* Words of four bytes in a row. */
static size_t row_words(const Matrix *m) { return m->cols / word_weights(m); }

/* Bring sixteen rows, in the plain form, side by side. */
static void interleave_block(const Matrix *from, const uint8_t *values, uint8_t *out) {
    size_t words = row_words(from);
    for (size_t word = 0; word < words; word++)
        for (int l = 0; l < SIDE; l++) {
            uint8_t *o = out + (word * SIDE + l) * 4;
            const uint8_t *row = values + l * words * 4;
            if (from->kind == Q8_0_X16) {
                for (int j = 0; j < 4; j++) o[j] = row[word * 4 + ORDER_Q8[j]];
                continue;
            }
            const uint8_t *group = row + word / 4 * (GROUP / 2);
            uint8_t w[8];
            for (int j = 0; j < 8; j++) {
                int at = word % 4 * 8 + ORDER_Q4[j];
                w[j] = at < GROUP / 2 ? group[at] & 15 : group[at - GROUP / 2] >> 4;
            }
            for (int j = 0; j < 4; j++) o[j] = w[2 * j] | w[2 * j + 1] << 4;
        }
}

static void interleave_halves(const uint16_t *from, int stride, uint16_t *out) {
    for (int g = 0; g < stride; g++)
        for (int l = 0; l < SIDE; l++) out[g * SIDE + l] = from[l * stride + g];
}

/* Row r as float32. */
static void read_side_row(const Matrix *m, size_t r, float *out) {
    size_t block = r / SIDE * SIDE, lane = r % SIDE;
    const uint8_t *words = (const uint8_t *)m->values + (block * row_words(m) + lane) * 4;
    const _Float16 *scales = m->scales + block * m->scale_stride + lane;
    const _Float16 *minima = m->minima ? m->minima + block * m->scale_stride + lane : 0;
    int count = word_weights(m);
    for (size_t word = 0; word < row_words(m); word++) {
        const uint8_t *b = words + word * SIDE * 4;
        int g = (int)word * count / GROUP;
        float scale = scales[g * SIDE], minimum = minima ? minima[g * SIDE] : 0;
        for (int j = 0; j < count; j++) {
            int at = (int)word * count + (count == 4 ? ORDER_Q8[j] : ORDER_Q4[j]);
            int w = count == 4 ? (int8_t)b[j] : b[j / 2] >> j % 2 * 4 & 15;
            out[at] = scale * w + minimum;
        }
    }
}

#if WIDE
/* Lane l of w[k]: the weights 2k and 2k + 1 of row l in a group, sixteen bits each. */
INLINE void unpack_q8(const uint8_t *words, __m512i *w) {
    for (int k = 0; k < 8; k++) {
        __m512i b = _mm512_loadu_si512(words + k * 64);
        w[2 * k] = _mm512_srai_epi16(_mm512_slli_epi16(b, 8), 8);
        w[2 * k + 1] = _mm512_srai_epi16(b, 8);
    }
}

INLINE void unpack_q4(const uint8_t *words, __m512i *w) {
    const __m512i low = _mm512_set1_epi16(15);
    for (int k = 0; k < 4; k++) {
        __m512i b = _mm512_loadu_si512(words + k * 64);
        w[4 * k] = _mm512_and_si512(b, low);
        w[4 * k + 1] = _mm512_and_si512(_mm512_srli_epi16(b, 4), low);
        w[4 * k + 2] = _mm512_and_si512(_mm512_srli_epi16(b, 8), low);
        w[4 * k + 3] = _mm512_srli_epi16(b, 12);
    }
}

/* y[i] += weights of group g . activation first + i, for i < n, where n is a constant. Sums of
 * integers are exact: splitting them, so that no product waits for another, changes nothing. */
INLINE void add_group(const __m512i *w, __m512 scale, __m512 minimum, int has_minimum,
                      const Activations *a, int first, int g, int n, float (*y)[SIDE]) {
    const int parts = n >= 4 ? 1 : 4 / n;
    __m512i sums[MAX_BLOCK];
    for (int i = 0; i < n * parts; i++) sums[i] = _mm512_setzero_si512();
    const int16_t *x = a->fixed + (size_t)first * a->fixed_stride + (size_t)g * GROUP;
    for (int k = 0; k < GROUP / 2; k++)
        for (int i = 0; i < n; i++) {
            int32_t pair;
            memcpy(&pair, x + (size_t)i * a->fixed_stride + 2 * k, sizeof pair);
            int at = i * parts + k % parts;
            sums[at] = _mm512_dpwssd_epi32(sums[at], w[k], _mm512_set1_epi32(pair));
        }
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)(first + i) * a->sums_stride + g;
        __m512i sum = sums[i * parts];
        for (int p = 1; p < parts; p++) sum = _mm512_add_epi32(sum, sums[i * parts + p]);
        __m512 total = _mm512_loadu_ps(y[i]);
        if (has_minimum) total = _mm512_fmadd_ps(minimum, _mm512_set1_ps(a->sums[at]), total);
        __m512 each = _mm512_mul_ps(scale, _mm512_set1_ps(a->steps[at]));
        _mm512_storeu_ps(y[i], _mm512_fmadd_ps(each, _mm512_cvtepi32_ps(sum), total));
    }
}

INLINE void side_block(const Matrix *m, size_t r, const Activations *a, int n, int four_bits,
                       float (*y)[SIDE]) {
    const uint8_t *words = (const uint8_t *)m->values + r * row_words(m) * 4;
    const _Float16 *scales = m->scales + r * m->scale_stride;
    const _Float16 *minima = four_bits ? m->minima + r * m->scale_stride : 0;
    const int group_bytes = GROUP / (four_bits ? 8 : 4) * SIDE * 4;
    for (int i = 0; i < n; i++) _mm512_storeu_ps(y[i], _mm512_setzero_ps());
    for (int g = 0; g < m->cols / GROUP; g++, words += group_bytes) {
        __m512i w[GROUP / 2];
        for (int b = 0; b < group_bytes; b += 64) __builtin_prefetch(words + AHEAD + b);
        if (four_bits) unpack_q4(words, w);
        else unpack_q8(words, w);
        __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(scales + g * SIDE)));
        __m512 minimum = _mm512_setzero_ps();
        if (four_bits)
            minimum = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(minima + g * SIDE)));
        int i = 0;
        for (; i + 8 <= n; i += 8) add_group(w, scale, minimum, four_bits, a, i, g, 8, y + i);
        if (n - i >= 4) add_group(w, scale, minimum, four_bits, a, i, g, 4, y + i), i += 4;
        if (n - i >= 2) add_group(w, scale, minimum, four_bits, a, i, g, 2, y + i), i += 2;
        if (n - i >= 1) add_group(w, scale, minimum, four_bits, a, i, g, 1, y + i);
    }
}
#endif

/* y[i][k] = row r + k . activation i, for k < 16 and i < n. */
static void dot_side(const Matrix *m, size_t r, const Activations *a, int n, float (*y)[SIDE]) {
#if WIDE
    if (m->kind == Q8_0_X16) side_block(m, r, a, n, 0, y);
    else side_block(m, r, a, n, 1, y);
    if (m->bias)
        for (int i = 0; i < n; i++)
            for (int k = 0; k < SIDE; k++) y[i][k] += m->bias[r + k];
#else
    (void)m, (void)r, (void)a, (void)n, (void)y; /* nothing was brought into this form */
#endif
}
