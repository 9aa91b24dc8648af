/* One forward pass of a Llama- or Granite-shaped model over a few tokens of one or many sequences.
 *
 * A pass over a single token is mostly waiting for the weights to come from memory, and in an
 * interpreter mostly overhead. Here the whole pass is one call, in one parallel region. Prompts are
 * read here only with weights side by side: for the others the products of a BLAS are faster.
 *
 * Formulas: modeling_llama.py and modeling_granitemoehybrid.py of transformers 5, to which the
 * results are compared in tests/test_native.py.
 */
#include "kernels.h"
#include "attention.h"
#include "products.h"

/* Mirrored by native.library.Layer. */
typedef struct {
    int32_t recurrent; /* 0: attention, 1: Mamba 2 */
    int32_t unused;
    const float *input_norm, *mlp_norm;
    Matrix query, key, value, output; /* of attention */
    Matrix gate, up, down;            /* of the MLP */
    Matrix in_proj, out_proj;         /* of Mamba */
    const float *conv_weight, *conv_bias, *dt_bias, *decay, *skip, *gate_norm;
} Layer;

/* Mirrored by native.library.Model. */
typedef struct {
    int32_t hidden, heads, kv_heads, head_dim, mlp, layers, vocabulary;
    int32_t rotary;                                        /* 0: no positions */
    int32_t m_heads, m_head_dim, m_state, m_groups, m_conv; /* of Mamba */
    float eps, embedding_scale, attention_scale, residual_scale, logits_scale;
    const float *cosines, *sines; /* [positions][head_dim / 2] */
    const float *final_norm;
    Matrix embedding, head;
    const Layer *layer;
} Model;

/* Tokens to be read, in order, those of a sequence side by side. Mirrored by native.library.Batch. */
typedef struct {
    int32_t tokens, outputs, threads, unused;
    const int32_t *ids, *positions, *sequence; /* [tokens] */
    const int32_t *output_index;               /* [outputs]: tokens whose logits are wanted */
    float *const *keys, *const *values;        /* [sequences * layers]: [kv_heads][capacity][dim] */
    const int64_t *capacity;                   /* [sequences] */
    float *const *conv, *const *state; /* [sequences * layers]: [channels][m_conv], [heads][..][..] */
    float *logits;                     /* [outputs][vocabulary] */
    float *scratch;                    /* agentkit_scratch_floats() */
    int64_t longest;                   /* positions in the longest sequence */
} Batch;

typedef struct {
    float *x, *h, *sums, *steps, *q, *k, *v, *mixed, *proj, *conv, *scores;
    int16_t *fixed, *pairs; /* [tokens][wide] */
    int sums_stride, wide, proj_width, conv_width, inner;
    int quantized; /* some weights are: only their kernels want prepared activations */
} Scratch;

static int max_int(int a, int b) { return a > b ? a : b; }

static int64_t lay_out(const Model *m, int64_t longest, int threads, float *base, Scratch *s) {
    s->inner = m->m_heads * m->m_head_dim;
    s->conv_width = s->inner + 2 * m->m_groups * m->m_state;
    s->proj_width = s->inner + s->conv_width + m->m_heads;
    s->wide = round_up(max_int(max_int(m->mlp, m->hidden), max_int(m->heads * m->head_dim, s->inner)), 2 * GROUP);
    s->sums_stride = round_up(s->wide / GROUP + 1, 8);
    int64_t at = 0, n = MAX_TOKENS;
    float *fixed = 0, *pairs = 0;
    float **parts[] = {&s->x, &s->h, &s->sums, &s->q, &s->k, &s->v, &s->mixed, &s->proj, &s->conv,
                       &s->scores, &s->steps, &fixed, &pairs};
    int64_t sizes[] = {n * m->hidden, n * s->wide, n * s->sums_stride, n * m->heads * m->head_dim,
                       n * m->kv_heads * m->head_dim, n * m->kv_heads * m->head_dim, n * s->wide,
                       m->m_heads ? n * s->proj_width : 0, m->m_heads ? n * s->conv_width : 0,
                       threads * score_floats(longest), n * s->sums_stride, n * s->wide / 2,
                       n * s->wide / 2};
    for (int i = 0; i < 13; i++) {
        *parts[i] = base + at;
        at += (sizes[i] + 15) / 16 * 16;
    }
    s->fixed = (int16_t *)fixed;
    s->pairs = (int16_t *)pairs;
    return at;
}

/* Floats of scratch memory that a call needs. */
int64_t agentkit_scratch_floats(const Model *m, int64_t longest, int32_t threads) {
    Scratch s;
    return lay_out(m, longest, threads, 0, &s);
}

int32_t agentkit_max_tokens(void) { return MAX_TOKENS; }

/* Struct sizes, to be compared with the mirrors'. */
int32_t agentkit_size_of(int32_t what) {
    return what == 0 ? sizeof(Matrix) : what == 1 ? sizeof(Layer) : what == 2 ? sizeof(Model)
                                                                              : sizeof(Batch);
}

static void rms_norm(const float *x, const float *weight, int n, float eps, float *out) {
    v8f squares = splat(0);
    for (int c = 0; c < n; c += 8)
        squares = fma8(*(const v8f *)(x + c), *(const v8f *)(x + c), squares);
    float scale = 1.0f / sqrtf(sum8(squares) / n + eps);
    for (int c = 0; c < n; c += 8)
        *(v8f *)(out + c) = *(const v8f *)(weight + c) * (*(const v8f *)(x + c) * splat(scale));
}

static Activations activations(const Scratch *s, const float *x) {
    return (Activations){x, s->sums, s->fixed, s->pairs, s->steps, s->wide, s->sums_stride, s->wide};
}

/* Ready activation i, of n values, for the kernels. */
static void prepare_one(const Scratch *s, const float *x, int i, int n) {
    if (!s->quantized) return;
    size_t at = (size_t)i * s->sums_stride;
    size_t wide = (size_t)i * s->wide;
    prepare(x, n, s->sums + at, s->fixed + wide, s->pairs + wide, s->steps + at, s->sums_stride);
}

static void norm_all(const Model *m, const Batch *b, const Scratch *s, const float *weight) {
    FOR(1)
    for (int i = 0; i < b->tokens; i++) {
        float *h = s->h + (size_t)i * s->wide;
        rms_norm(s->x + (size_t)i * m->hidden, weight, m->hidden, m->eps, h);
        prepare_one(s, h, i, m->hidden);
    }
}

static void prepare_all(const Batch *b, const Scratch *s, const float *x, int n) {
    if (!s->quantized) return;
    FOR(1)
    for (int i = 0; i < b->tokens; i++) prepare_one(s, x + (size_t)i * s->wide, i, n);
}

/* x[i][r] += scale * (row r . activation i) */
static void add_product(const Model *m, const Matrix *w, const Activations *a, int n, float *x) {
    STRIPES
    for (int r = 0; r < w->rows; r += SIDE) {
        float y[MAX_TOKENS][SIDE];
        int rows = side_rows(w->rows, r);
        dot_rows(w, r, rows, a, n, y);
        for (int i = 0; i < n; i++)
            for (int k = 0; k < rows; k++)
                x[(size_t)i * m->hidden + r + k] += m->residual_scale * y[i][k];
    }
}

static void attention(const Model *m, const Batch *b, const Scratch *s, const Layer *l, int index) {
    int n = b->tokens, dim = m->head_dim, q_width = m->heads * dim, kv_width = m->kv_heads * dim;
    Activations a = activations(s, s->h);
    multiply(&l->query, &a, n, s->q, q_width);
    multiply(&l->key, &a, n, s->k, kv_width);
    multiply(&l->value, &a, n, s->v, kv_width);
    PRAGMA(omp barrier)
    FOR(1)
    for (int i = 0; i < n; i++) {
        size_t at = (size_t)b->sequence[i] * m->layers + index;
        int64_t pos = b->positions[i], room = b->capacity[b->sequence[i]];
        const float *cosines = m->cosines + pos * (dim / 2), *sines = m->sines + pos * (dim / 2);
        if (m->rotary)
            for (int h = 0; h < m->heads; h++)
                rotate(s->q + (size_t)i * q_width + h * dim, cosines, sines, dim);
        for (int h = 0; h < m->kv_heads; h++) {
            float *k = s->k + (size_t)i * kv_width + h * dim;
            if (m->rotary) rotate(k, cosines, sines, dim);
            memcpy(b->keys[at] + (h * room + pos) * dim, k, sizeof(float) * dim);
            memcpy(b->values[at] + (h * room + pos) * dim, s->v + (size_t)i * kv_width + h * dim,
                   sizeof(float) * dim);
        }
    }
    /* One token's heads are shared out among the threads; of many, those that share keys stay
     * together. */
    int shared = m->heads / m->kv_heads, together = n > 1 ? shared : 1;
    FOR(1)
    for (int j = 0; j < n * m->heads; j += together) {
        int i = j / m->heads, h = j % m->heads;
        size_t at = (size_t)b->sequence[i] * m->layers + index;
        int64_t begin = (int64_t)(h / shared) * b->capacity[b->sequence[i]] * dim;
        attend(s->q + (size_t)i * q_width + h * dim, b->keys[at] + begin, b->values[at] + begin,
               b->positions[i] + 1, dim, together, m->attention_scale,
               s->scores + omp_get_thread_num() * score_floats(b->longest),
               s->mixed + (size_t)i * s->wide + h * dim);
    }
    prepare_all(b, s, s->mixed, q_width);
    a = activations(s, s->mixed);
    add_product(m, &l->output, &a, n, s->x);
}

/* The recurrence of Mamba 2, token by token: modeling_granitemoehybrid's "recurrent form". */
static void mamba(const Model *m, const Batch *b, const Scratch *s, const Layer *l, int index) {
    int n = b->tokens, inner = s->inner, taps = m->m_conv, states = m->m_state;
    Activations a = activations(s, s->h);
    multiply(&l->in_proj, &a, n, s->proj, s->proj_width);
    PRAGMA(omp barrier)
    FOR(32)
    for (int c = 0; c < s->conv_width; c++) {
        const float *w = l->conv_weight + (size_t)c * taps;
        for (int i = 0; i < n; i++) {
            float *past = b->conv[(size_t)b->sequence[i] * m->layers + index] + (size_t)c * taps;
            float sum = l->conv_bias ? l->conv_bias[c] : 0;
            for (int t = 0; t < taps; t++) {
                past[t] = t + 1 < taps ? past[t + 1] : s->proj[(size_t)i * s->proj_width + inner + c];
                sum += past[t] * w[t];
            }
            s->conv[(size_t)i * s->conv_width + c] = silu(sum);
        }
    }
    FOR(1)
    for (int h = 0; h < m->m_heads; h++) {
        int group = h / (m->m_heads / m->m_groups);
        for (int i = 0; i < n; i++) {
            const float *row = s->conv + (size_t)i * s->conv_width;
            const float *x = row + h * m->m_head_dim;
            const float *bs = row + inner + group * states;
            const float *cs = bs + m->m_groups * states;
            float dt = s->proj[(size_t)i * s->proj_width + inner + s->conv_width + h] + l->dt_bias[h];
            dt = dt > 20 ? dt : log1pf(expf(dt));
            v8f keep = splat(expf(dt * l->decay[h]));
            float *state = b->state[(size_t)b->sequence[i] * m->layers + index] +
                           (size_t)h * m->m_head_dim * states;
            float *out = s->mixed + (size_t)i * s->wide + h * m->m_head_dim;
            for (int p = 0; p < m->m_head_dim; p++) {
                v8f add = splat(dt * x[p]), sum = splat(0);
                for (int c = 0; c < states; c += 8) {
                    v8f *cell = (v8f *)(state + (size_t)p * states + c);
                    *cell = fma8(*cell, keep, add * *(const v8f *)(bs + c));
                    sum = fma8(*cell, *(const v8f *)(cs + c), sum);
                }
                out[p] = sum8(sum) + l->skip[h] * x[p];
            }
        }
    }
    FOR(1)
    for (int i = 0; i < n; i++) {
        float *y = s->mixed + (size_t)i * s->wide;
        for (int c = 0; c < inner; c++) y[c] *= silu(s->proj[(size_t)i * s->proj_width + c]);
        int width = inner / m->m_groups;
        for (int g = 0; g < m->m_groups; g++)
            rms_norm(y + g * width, l->gate_norm + g * width, width, m->eps, y + g * width);
        prepare_one(s, y, i, inner);
    }
    a = activations(s, s->mixed);
    add_product(m, &l->out_proj, &a, n, s->x);
}

static void mlp(const Model *m, const Batch *b, const Scratch *s, const Layer *l) {
    int n = b->tokens;
    Activations a = activations(s, s->h);
    STRIPES
    for (int r = 0; r < m->mlp; r += SIDE) {
        float gate[MAX_TOKENS][SIDE], up[MAX_TOKENS][SIDE];
        int rows = side_rows(m->mlp, r);
        dot_rows(&l->gate, r, rows, &a, n, gate);
        dot_rows(&l->up, r, rows, &a, n, up);
        for (int i = 0; i < n; i++) {
            float *mixed = s->mixed + (size_t)i * s->wide + r;
            for (int k = 0; k < rows; k += 8)
                *(v8f *)(mixed + k) = silu8(*(v8f *)(gate[i] + k)) * *(v8f *)(up[i] + k);
        }
    }
    prepare_all(b, s, s->mixed, m->mlp);
    a = activations(s, s->mixed);
    add_product(m, &l->down, &a, n, s->x);
}

/* Whether any matrix that is multiplied with is held in eight or four bits. */
static int has_quantized(const Model *m) {
    int found = m->head.kind >= Q8_0;
    for (int i = 0; i < m->layers; i++) {
        const Layer *l = m->layer + i;
        const Matrix *all[] = {&l->query, &l->key,  &l->value,   &l->output,  &l->gate,
                               &l->up,    &l->down, &l->in_proj, &l->out_proj};
        for (int j = 0; j < 9; j++) found |= all[j]->kind >= Q8_0;
    }
    return found;
}

/* Read the tokens; afterwards caches and states hold them and logits are written. */
void agentkit_step(const Model *m, const Batch *b) {
    Scratch s;
    lay_out(m, b->longest, b->threads, b->scratch, &s);
    s.quantized = has_quantized(m);
    PRAGMA(omp parallel num_threads(b->threads))
    {
        FOR(1)
        for (int i = 0; i < b->tokens; i++) {
            float *x = s.x + (size_t)i * m->hidden;
            read_row(&m->embedding, b->ids[i], x);
            for (int c = 0; c < m->hidden; c++) x[c] *= m->embedding_scale;
        }
        for (int i = 0; i < m->layers; i++) {
            const Layer *l = m->layer + i;
            norm_all(m, b, &s, l->input_norm);
            if (l->recurrent) mamba(m, b, &s, l, i);
            else attention(m, b, &s, l, i);
            norm_all(m, b, &s, l->mlp_norm);
            mlp(m, b, &s, l);
        }
        FOR(1)
        for (int i = 0; i < b->outputs; i++) {
            float *h = s.h + (size_t)i * s.wide;
            rms_norm(s.x + (size_t)b->output_index[i] * m->hidden, m->final_norm, m->hidden, m->eps, h);
            prepare_one(&s, h, i, m->hidden);
        }
        Activations a = activations(&s, s.h);
        STRIPES
        for (int r = 0; r < m->vocabulary; r += SIDE) {
            float y[MAX_TOKENS][SIDE];
            int rows = side_rows(m->vocabulary, r);
            dot_rows(&m->head, r, rows, &a, b->outputs, y);
            for (int i = 0; i < b->outputs; i++) {
                float *logits = b->logits + (size_t)i * m->vocabulary + r;
                for (int k = 0; k < rows; k++) logits[k] = y[i][k] * m->logits_scale;
            }
        }
    }
}
