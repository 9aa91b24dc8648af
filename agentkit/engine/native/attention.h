/* Attention of queries to the keys and values of one key-value head.
 *
 * Heads that share keys are looked after together, so that each key is fetched once. Whatever is
 * done together, each sum is added up in the same order.
 */
#define MAX_HEADS 4

/* scores[h * room + t] = query h . key t, for n keys; n and the number of heads are constants. */
INLINE void score(const float *q, const float *keys, int dim, int heads, int n, float *scores,
                  int64_t room) {
    v8f sums[MAX_HEADS][8];
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < n; i++) sums[h][i] = splat(0);
    for (int c = 0; c < dim; c += 8) {
        for (int i = 0; i < n; i++) {
            v8f key = *(const v8f *)(keys + (size_t)i * dim + c);
            for (int h = 0; h < heads; h++)
                sums[h][i] = fma8(*(const v8f *)(q + h * dim + c), key, sums[h][i]);
        }
    }
    /* Several are added up at once, as that costs as much as the products. */
    for (int h = 0; h < heads; h++) add_lanes(sums[h], n, scores + h * room);
}

/* Scores to weights, which are not yet divided by their sum; returns what to multiply with. */
static float soften(float *scores, int64_t length, float scale) {
    int64_t padded = (length + 7) / 8 * 8;
    for (int64_t t = length; t < padded; t++) scores[t] = -INFINITY;
    v8f highest = splat(-INFINITY);
    for (int64_t t = 0; t < padded; t += 8) {
        v8f scaled = *(v8f *)(scores + t) * splat(scale);
        *(v8f *)(scores + t) = scaled;
        v8i above = scaled > highest;
        highest = (v8f)(((v8i)scaled & above) | ((v8i)highest & ~above));
    }
    float most = highest[0];
    for (int i = 1; i < 8; i++) most = highest[i] > most ? highest[i] : most;
    v8f total = splat(0);
    for (int64_t t = 0; t < padded; t += 8) {
        v8f e = exp8(*(v8f *)(scores + t) - splat(most));
        *(v8f *)(scores + t) = e;
        total += e;
    }
    /* Past the end e**-inf was cut off at about 1e-38, not at 0: too little to count. */
    return 1.0f / sum8(total);
}

/* out[h] = sum over t of weights[h * room + t] * value t, in a part of the dimensions. */
INLINE void weigh(const float *values, const float *weights, int64_t room, int64_t length, int dim,
                  int heads, int width, const float *shares, float *out) {
    v8f sums[MAX_HEADS][4];
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < width; i++) sums[h][i] = splat(0);
    for (int64_t t = 0; t < length; t++)
        for (int h = 0; h < heads; h++) {
            v8f w = splat(weights[h * room + t]);
            for (int i = 0; i < width; i++)
                sums[h][i] = fma8(w, *(const v8f *)(values + t * dim + 8 * i), sums[h][i]);
        }
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < width; i++)
            *(v8f *)(out + h * dim + 8 * i) = sums[h][i] * splat(shares[h]);
}

INLINE void attend_heads(const float *q, const float *keys, const float *values, int64_t length,
                         int dim, int heads, float scale, float *scores, float *out) {
    int64_t room = (length + 15) / 8 * 8, t = 0;
    float shares[MAX_HEADS];
    if (heads == 1)
        for (; t + 8 <= length; t += 8) score(q, keys + t * dim, dim, 1, 8, scores + t, room);
    for (; t + 4 <= length; t += 4) score(q, keys + t * dim, dim, heads, 4, scores + t, room);
    for (; t < length; t++) score(q, keys + t * dim, dim, heads, 1, scores + t, room);
    for (int h = 0; h < heads; h++) shares[h] = soften(scores + h * room, length, scale);
    int c = 0;
    for (; c + 32 <= dim; c += 32)
        weigh(values + c, scores, room, length, dim, heads, 4, shares, out + c);
    for (; c < dim; c += 8)
        weigh(values + c, scores, room, length, dim, heads, 1, shares, out + c);
}

/* Floats that attend writes scores to, for each thread. */
static int64_t score_floats(int64_t longest) { return MAX_HEADS * (longest + 16); }

/* out[h] = what head h takes from the values, for heads side by side that share keys and values. */
static void attend(const float *q, const float *keys, const float *values, int64_t length, int dim,
                   int heads, float scale, float *scores, float *out) {
    for (int h = 0; h < heads;) {
        const float *from = q + (size_t)h * dim;
        float *to = out + (size_t)h * dim;
        int left = heads - h;
        if (left >= 4) attend_heads(from, keys, values, length, dim, 4, scale, scores, to), h += 4;
        else if (left == 3) attend_heads(from, keys, values, length, dim, 3, scale, scores, to), h += 3;
        else if (left == 2) attend_heads(from, keys, values, length, dim, 2, scale, scores, to), h += 2;
        else attend_heads(from, keys, values, length, dim, 1, scale, scores, to), h += 1;
    }
}

static void rotate(float *x, const float *cosines, const float *sines, int dim) {
    int half = dim / 2;
    for (int c = 0; c < half; c++) {
        float a = x[c], b = x[c + half];
        x[c] = a * cosines[c] - b * sines[c];
        x[c + half] = b * cosines[c] + a * sines[c];
    }
}
