/* A step of a model like Llama: all its tokens through all layers, by a team of threads. */
#define _GNU_SOURCE /* madvise */
#include "attention.h"
#include "threads.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HUGE_PAGE (2ul << 20)
#define ROWS_AT_ONCE 4 /* of what is done row by row */

/* Matrices are packed; biases and norms are NULL where the model has none. */
typedef struct {
    const float *before_attention, *before_mlp, *query_norm, *key_norm;
    const bf16 *qkv, *out, *gate_up, *down;
    const float *qkv_bias, *out_bias;
    bf16 *keys, *values; /* the memory of the layer */
} layer;

typedef struct {
    int32_t layers, hidden, heads, kv_heads, size, inner, vocabulary, block;
    float epsilon, scale;
    const layer *layer;
    const bf16 *embedding; /* (token, hidden) */
    const float *norm;
    const bf16 *head; /* packed */
} model;

typedef struct {
    int32_t rows, spans;
    const int32_t *tokens; /* of each row */
    const span *span;      /* one after the other */
    const int32_t *blocks; /* of all spans */
    const float *cosines, *sines; /* (position, size / 2) */
    float *logits;                /* (span, vocabulary): what follows its last token */
    int32_t *best;                /* of each span: where the highest of its logits is, the first of equal ones */
} step;

typedef struct {
    int span, first, rows, head;
} piece;

typedef struct {
    float logit;
    int32_t at;
} highest;

typedef struct {
    team *team;
    const model *model;
    const step *step;
    attention shape;
    int pieces;
    piece *piece;
    float *hidden, *projected;
    bf16 *normed, *queries, *found, *inner;
    float *sums; /* of each thread */
    int64_t sums_each;
    highest *highest; /* of each thread and span */
    int32_t *position; /* of each row */
    int64_t *place;
    void *memory;
    size_t room;
} engine;

typedef struct {
    const engine *engine;
    int thread;
    const bf16 *x;
    int rows, inputs, outputs;
    const bf16 *weights;
    const float *bias;
} product;

/* What becomes of the PANEL sums of each row. */
typedef void (*sink)(const product *of, int output, int count, const float *sums);

static int64_t padded(int64_t rows) { return (rows + TILE - 1) / TILE * TILE; }

static void multiply(engine *engine, product of, sink sink)
{
    float *sums = engine->sums + of.thread * engine->sums_each;
    const int panels = (of.outputs + PANEL - 1) / PANEL;
    for (int panel; (panel = team_take(engine->team)) < panels;) {
        const int output = panel * PANEL, left = of.outputs - output;
        matrix_panel(of.x, of.rows, of.inputs, of.weights + (int64_t)output * of.inputs, sums);
        sink(&of, output, left < PANEL ? left : PANEL, sums);
    }
    team_meet(engine->team);
}

static inline __m512 biased(const product *of, int output, __m512 sum)
{
    return of->bias ? _mm512_add_ps(sum, _mm512_loadu_ps(of->bias + output)) : sum;
}

static void put_projected(const product *of, int output, int count, const float *sums)
{
    for (int row = 0; row < of->rows; row++)
        for (int each = 0; each < count; each += LANES)
            _mm512_storeu_ps(of->engine->projected + (int64_t)row * of->outputs + output + each,
                             biased(of, output + each, _mm512_loadu_ps(sums + row * PANEL + each)));
}

static void add_to_hidden(const product *of, int output, int count, const float *sums)
{
    for (int row = 0; row < of->rows; row++)
        for (int each = 0; each < count; each += LANES) {
            float *to = of->engine->hidden + (int64_t)row * of->outputs + output + each;
            const __m512 sum = biased(of, output + each, _mm512_loadu_ps(sums + row * PANEL + each));
            _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), sum));
        }
}

/* A panel has 16 outputs of the gate, then the same of what it lets through. */
static void put_gated(const product *of, int output, int count, const float *sums)
{
    (void)count;
    for (int row = 0; row < of->rows; row++, sums += PANEL) {
        const __m512 gate = _mm512_loadu_ps(sums), up = _mm512_loadu_ps(sums + LANES);
        const __m512 whole = _mm512_add_ps(_mm512_set1_ps(1.0f), vector_exp(_mm512_sub_ps(_mm512_setzero_ps(), gate)));
        vector_to(of->engine->inner + (int64_t)row * of->outputs / 2 + output / 2,
                  _mm512_mul_ps(_mm512_div_ps(gate, whole), up));
    }
}

static void put_logits(const product *of, int output, int count, const float *sums)
{
    highest *highest = of->engine->highest + of->thread * of->rows;
    const __mmask32 there = 0xffffffff >> (PANEL - count);
    const __m512 none = _mm512_set1_ps(-INFINITY);
    for (int row = 0; row < of->rows; row++, highest++, sums += PANEL) {
        float *to = of->engine->step->logits + (int64_t)row * of->outputs + output;
        const __m512 first = _mm512_loadu_ps(sums), second = _mm512_loadu_ps(sums + LANES);
        _mm512_mask_storeu_ps(to, there, first);
        _mm512_mask_storeu_ps(to + LANES, there >> LANES, second);
        const __m512 top = _mm512_max_ps(_mm512_mask_mov_ps(none, there, first),
                                         _mm512_mask_mov_ps(none, there >> LANES, second));
        const float logit = _mm512_reduce_max_ps(top);
        if (logit <= highest->logit)
            continue;
        highest->logit = logit;
        for (highest->at = output; sums[highest->at - output] < logit;)
            highest->at++;
    }
}

static inline __m512 normal(const float *x, int count, float epsilon)
{
    __m512 squares = _mm512_setzero_ps();
    for (int each = 0; each < count; each += LANES) {
        const __m512 value = _mm512_loadu_ps(x + each);
        squares = _mm512_fmadd_ps(value, value, squares);
    }
    return _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / count + epsilon));
}

static void norm_row(const engine *engine, const float *from, const float *weight, bf16 *to)
{
    const int count = engine->model->hidden;
    const __m512 factor = normal(from, count, engine->model->epsilon);
    for (int each = 0; each < count; each += LANES)
        vector_to(to + each, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(from + each), factor),
                                           _mm512_loadu_ps(weight + each)));
}

static void norm(engine *engine, const float *weight)
{
    const int width = engine->model->hidden;
    for (int row; (row = ROWS_AT_ONCE * team_take(engine->team)) < engine->step->rows;)
        for (int end = row + ROWS_AT_ONCE; row < end && row < engine->step->rows; row++)
            norm_row(engine, engine->hidden + (int64_t)row * width, weight, engine->normed + (int64_t)row * width);
    team_meet(engine->team);
}

/* One head: norm where the model has one, and turned by its position. */
static void turn(const engine *engine, int row, const float *from, const float *weight, bf16 *to)
{
    const int size = engine->model->size, half = size / 2;
    const int64_t at = (int64_t)engine->position[row] * half;
    const float *cosines = engine->step->cosines + at, *sines = engine->step->sines + at;
    const __m512 one = _mm512_set1_ps(1.0f), factor = weight ? normal(from, size, engine->model->epsilon) : one;
    for (int each = 0; each < half; each += LANES) {
        const __m512 cosine = _mm512_loadu_ps(cosines + each), sine = _mm512_loadu_ps(sines + each);
        __m512 first = _mm512_loadu_ps(from + each), second = _mm512_loadu_ps(from + half + each);
        if (weight) {
            first = _mm512_mul_ps(_mm512_mul_ps(first, factor), _mm512_loadu_ps(weight + each));
            second = _mm512_mul_ps(_mm512_mul_ps(second, factor), _mm512_loadu_ps(weight + half + each));
        }
        vector_to(to + each, _mm512_fmsub_ps(first, cosine, _mm512_mul_ps(second, sine)));
        vector_to(to + half + each, _mm512_fmadd_ps(second, cosine, _mm512_mul_ps(first, sine)));
    }
}

static void remember_row(const engine *engine, const layer *layer, int row)
{
    const model *model = engine->model;
    const int size = model->size, width = (model->heads + 2 * model->kv_heads) * size;
    const float *from = engine->projected + (int64_t)row * width;
    const int64_t place = engine->place[row] * model->kv_heads * size;
    for (int head = 0; head < model->heads; head++, from += size)
        turn(engine, row, from, layer->query_norm, engine->queries + ((int64_t)row * model->heads + head) * size);
    for (int head = 0; head < model->kv_heads; head++, from += size)
        turn(engine, row, from, layer->key_norm, layer->keys + place + head * size);
    for (int each = 0; each < model->kv_heads * size; each += LANES)
        vector_to(layer->values + place + each, _mm512_loadu_ps(from + each));
}

static void look_back(engine *engine, const layer *layer)
{
    for (int row; (row = ROWS_AT_ONCE * team_take(engine->team)) < engine->step->rows;)
        for (int end = row + ROWS_AT_ONCE; row < end && row < engine->step->rows; row++)
            remember_row(engine, layer, row);
    team_meet(engine->team);
    attention shape = engine->shape;
    shape.keys = layer->keys;
    shape.values = layer->values;
    for (int each; (each = team_take(engine->team)) < engine->pieces;) {
        const piece *piece = engine->piece + each;
        attend(&shape, engine->step->span + piece->span, piece->first, piece->rows, piece->head);
    }
    team_meet(engine->team);
}

static void embed(engine *engine)
{
    const int width = engine->model->hidden;
    for (int row; (row = team_take(engine->team)) < engine->step->rows;)
        for (int each = 0; each < width; each += LANES)
            _mm512_storeu_ps(engine->hidden + (int64_t)row * width + each,
                             vector_from(engine->model->embedding + (int64_t)engine->step->tokens[row] * width + each));
    team_meet(engine->team);
}

static void predict(engine *engine, int thread)
{
    const model *model = engine->model;
    const int spans = engine->step->spans, width = model->hidden;
    for (int each = 0; each < spans; each++)
        engine->highest[thread * spans + each] = (highest){-INFINITY, 0};
    for (int each; (each = team_take(engine->team)) < spans;) {
        const span *span = engine->step->span + each;
        const float *last = engine->hidden + (int64_t)(span->row + span->rows - 1) * width;
        norm_row(engine, last, model->norm, engine->normed + (int64_t)each * width);
    }
    team_meet(engine->team);
    multiply(engine, (product){engine, thread, engine->normed, spans, width, model->vocabulary, model->head, NULL},
             put_logits);
}

static void compute(void *argument, int thread)
{
    engine *engine = argument;
    const model *model = engine->model;
    const int rows = engine->step->rows, hidden = model->hidden;
    const int wide = model->heads * model->size, all = wide + 2 * model->kv_heads * model->size;
    tiles_begin();
    embed(engine);
    for (const layer *layer = model->layer; layer < model->layer + model->layers; layer++) {
        norm(engine, layer->before_attention);
        multiply(engine, (product){engine, thread, engine->normed, rows, hidden, all, layer->qkv, layer->qkv_bias},
                 put_projected);
        look_back(engine, layer);
        multiply(engine, (product){engine, thread, engine->found, rows, wide, hidden, layer->out, layer->out_bias},
                 add_to_hidden);
        norm(engine, layer->before_mlp);
        multiply(engine, (product){engine, thread, engine->normed, rows, hidden, 2 * model->inner, layer->gate_up, NULL},
                 put_gated);
        multiply(engine, (product){engine, thread, engine->inner, rows, model->inner, hidden, layer->down, NULL},
                 add_to_hidden);
    }
    predict(engine, thread);
    tiles_end();
}

/* Parts of one allocation, each on a line of its own. */
static void *part(char *memory, size_t *used, size_t bytes)
{
    void *begin = memory ? memory + *used : NULL;
    *used += (bytes + 63) / 64 * 64;
    return begin;
}

static size_t lay_out(engine *engine, char *memory, int64_t pieces)
{
    const model *model = engine->model;
    const step *step = engine->step;
    const int64_t rows = padded(step->rows), threads = engine->team->threads;
    const int64_t wide = model->heads * model->size;
    size_t used = 0;
    engine->hidden = part(memory, &used, rows * model->hidden * sizeof(float));
    engine->projected = part(memory, &used, rows * (wide + 2 * model->kv_heads * model->size) * sizeof(float));
    engine->normed = part(memory, &used, rows * model->hidden * sizeof(bf16));
    engine->queries = part(memory, &used, rows * wide * sizeof(bf16));
    engine->found = part(memory, &used, rows * wide * sizeof(bf16));
    engine->inner = part(memory, &used, rows * model->inner * sizeof(bf16));
    engine->sums_each = rows * PANEL;
    engine->sums = part(memory, &used, threads * rows * PANEL * sizeof(float));
    engine->highest = part(memory, &used, threads * step->spans * sizeof(highest));
    engine->position = part(memory, &used, rows * sizeof(int32_t));
    engine->place = part(memory, &used, rows * sizeof(int64_t));
    engine->piece = part(memory, &used, pieces * sizeof(piece));
    return used;
}

static void list_pieces(engine *engine, int together)
{
    engine->pieces = 0;
    for (int each = 0; each < engine->step->spans; each++) {
        const span *span = engine->step->span + each;
        for (int row = 0; row < span->rows; row++) {
            engine->position[span->row + row] = span->start + row;
            engine->place[span->row + row] = place_of(&engine->shape, span, span->start + row);
        }
        for (int first = 0; first < span->rows; first += together)
            for (int head = 0; head < engine->model->kv_heads; head++) {
                const int left = span->rows - first;
                engine->piece[engine->pieces++] = (piece){each, first, left < together ? left : together, head};
            }
    }
}

static int prepare(engine *engine)
{
    const model *model = engine->model;
    const step *step = engine->step;
    engine->shape = (attention){.heads = model->heads, .kv_heads = model->kv_heads, .size = model->size,
                                .block = model->block, .scale = model->scale, .blocks = step->blocks};
    const int together = attention_rows(&engine->shape);
    int64_t pieces = 0;
    for (int span = 0; span < step->spans; span++)
        pieces += (step->span[span].rows + together - 1) / together * model->kv_heads;
    const size_t needed = lay_out(engine, NULL, pieces);
    if (needed > engine->room) {
        free(engine->memory);
        engine->room = 0;
        const size_t room = (needed + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
        if (!(engine->memory = aligned_alloc(HUGE_PAGE, room)))
            return 0;
        madvise(engine->memory, room, MADV_HUGEPAGE);
        memset(engine->memory, 0, room);
        engine->room = room;
    }
    lay_out(engine, engine->memory, pieces);
    engine->shape.queries = engine->queries;
    engine->shape.found = engine->found;
    list_pieces(engine, together);
    return 1;
}

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

/* NULL where the kernel does not lend tiles, or has no more threads. */
engine *engine_open(int threads)
{
    if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA))
        return NULL;
    engine *made = calloc(1, sizeof *made);
    if (made && (made->team = team_open(threads)))
        return made;
    free(made);
    return NULL;
}

/* 0 where there is no memory for it. One caller at a time. */
int engine_step(engine *engine, const model *model, const step *step)
{
    engine->model = model;
    engine->step = step;
    if (!prepare(engine))
        return 0;
    team_run(engine->team, compute, engine);
    for (int each = 0; each < step->spans; each++) {
        highest found = engine->highest[each];
        for (int thread = 1; thread < engine->team->threads; thread++) {
            const highest other = engine->highest[thread * step->spans + each];
            if (other.logit > found.logit || (other.logit == found.logit && other.at < found.at))
                found = other;
        }
        step->best[each] = found.at;
    }
    return 1;
}

void engine_close(engine *engine)
{
    team_close(engine->team);
    free(engine->memory);
    free(engine);
}
