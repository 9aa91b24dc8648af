/* A matrix by itself: its products with activations, and its rows as float32. */

#ifdef _OPENMP
#include <omp.h>
#define PRAGMA(x) _Pragma(#x)
#else
#define PRAGMA(x)
static int omp_get_thread_num(void) { return 0; }
#endif
#define FOR(chunk) PRAGMA(omp for schedule(dynamic, chunk))
/* Rows of weights in one stripe for each thread: memory is fetched ahead along a stripe. */
#define STRIPES PRAGMA(omp for schedule(static))
#define STRIPES_NOWAIT PRAGMA(omp for schedule(static) nowait)

static int round_up(int n, int to) { return (n + to - 1) / to * to; }

/* Rows from r on that are multiplied at once. */
static int side_rows(int rows, int r) { return rows - r < SIDE ? rows - r : SIDE; }

/* out[i][r] = row r . activation i; no barrier after it. */
static void multiply(const Matrix *w, const Activations *a, int n, float *out, int stride) {
    STRIPES_NOWAIT
    for (int r = 0; r < w->rows; r += SIDE) {
        float y[MAX_TOKENS][SIDE];
        int rows = side_rows(w->rows, r);
        dot_rows(w, r, rows, a, n, y);
        for (int i = 0; i < n; i++) memcpy(out + (size_t)i * stride + r, y[i], rows * sizeof(float));
    }
}

/* The whole matrix as float32, [rows][cols]. */
void agentkit_dequantize(const Matrix *w, float *out, int32_t threads) {
    PRAGMA(omp parallel for num_threads(threads) schedule(static))
    for (int r = 0; r < w->rows; r++) read_row(w, r, out + (size_t)r * w->cols);
}

/* out[i] = row ids[i] of the matrix as float32. */
void agentkit_read_rows(const Matrix *w, const int64_t *ids, int32_t n, float *out) {
    for (int i = 0; i < n; i++) read_row(w, ids[i], out + (size_t)i * w->cols);
}

/* Whether a matrix can be brought side by side here, by agentkit_interleave. Its halves are to be
 * usable as matrices of their own, as some models keep two in one. */
int32_t agentkit_can_interleave(int32_t rows, int32_t cols) {
    return WIDE && rows % (2 * SIDE) == 0 && cols % GROUP == 0;
}

/* Bring the rows of a matrix side by side. It is in the plain form, but has the kind that it is to
 * get; its values, scales and minima are written to other places. */
void agentkit_interleave(const Matrix *w, uint8_t *values, uint16_t *scales, uint16_t *minima,
                         int32_t threads) {
    size_t row_bytes = 4 * row_words(w);
    PRAGMA(omp parallel for num_threads(threads) schedule(static))
    for (int r = 0; r < w->rows; r += SIDE) {
        size_t at = (size_t)r * w->scale_stride;
        interleave_block(w, (const uint8_t *)w->values + r * row_bytes, values + r * row_bytes);
        interleave_halves((const uint16_t *)w->scales + at, w->scale_stride, scales + at);
        if (minima)
            interleave_halves((const uint16_t *)w->minima + at, w->scale_stride, minima + at);
    }
}

/* Floats of scratch memory that agentkit_linear needs. */
int64_t agentkit_linear_floats(const Matrix *w, int32_t n) {
    int64_t stride = round_up(w->cols / GROUP + 1, 8), wide = round_up(w->cols, 2 * GROUP);
    return n * (2 * stride + wide);
}

/* out[i][r] = row r . x[i], for n activations of w->cols values each. */
void agentkit_linear(const Matrix *w, const float *x, int32_t n, float *out, float *scratch,
                     int32_t threads) {
    int stride = round_up(w->cols / GROUP + 1, 8), wide = round_up(w->cols, 2 * GROUP);
    float *sums = scratch, *steps = scratch + (size_t)n * stride;
    int16_t *fixed = (int16_t *)(scratch + 2 * (size_t)n * stride), *pairs = fixed + (size_t)n * wide;
    PRAGMA(omp parallel num_threads(threads))
    {
        PRAGMA(omp for schedule(static))
        for (int i = 0; i < n; i++) {
            size_t at = (size_t)i * stride, from = (size_t)i * wide;
            prepare(x + (size_t)i * w->cols, w->cols, sums + at, fixed + from, pairs + from, steps + at,
                    stride);
        }
        for (int i = 0; i < n; i += MAX_TOKENS) {
            size_t at = (size_t)i * stride, from = (size_t)i * wide;
            Activations a = {x + (size_t)i * w->cols, sums + at, fixed + from, pairs + from,
                             steps + at, w->cols, stride, wide};
            multiply(w, &a, n - i < MAX_TOKENS ? n - i : MAX_TOKENS, out + (size_t)i * w->rows,
                     w->rows);
        }
    }
}
