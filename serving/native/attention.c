#include "attention.h"

#include <math.h>
#include <string.h>

#define STRETCH 64 /* tokens between two corrections of the sums */
#define TOGETHER 8 /* queries whose sums are in registers at a time */

typedef struct {
    const attention *shape;
    const span *span;
    int head, queries, limit; /* `limit`: tokens that the last of the queries sees */
    __m512i limits;           /* and each */
    __m512 top, total;
    float weights[STRETCH][MOST_QUERIES];
    /* (query, size), of 32 numbers first those at even places, then the others */
    float sums[MOST_QUERIES][MOST_SIZE];
} state;

int attention_rows(const attention *shape)
{
    const int group = shape->heads / shape->kv_heads;
    return group > MOST_QUERIES / 2 ? 1 : MOST_QUERIES / group;
}

/* Where the token's numbers for the head begin; the next TILE - 1 tokens of a block follow it. */
static inline const bf16 *stored(const state *now, const bf16 *memory, int token)
{
    const attention *shape = now->shape;
    return memory + (place_of(shape, now->span, token) * shape->kv_heads + now->head) * shape->size;
}

/* The queries side by side as tiles 4 to 7: a row of a tile is a pair of numbers of each query. */
static void load_queries(const state *now, int first)
{
    uint32_t tiles[MOST_SIZE / DEPTH][TILE][MOST_QUERIES];
    const attention *shape = now->shape;
    const int group = shape->heads / shape->kv_heads, pairs = shape->size / 2;
    memset(tiles, 0, sizeof tiles);
    for (int query = 0; query < now->queries; query++) {
        const int64_t row = now->span->row + first + query / group;
        const int64_t head = now->head * group + query % group;
        const uint32_t *from = (const uint32_t *)(shape->queries + (row * shape->heads + head) * shape->size);
        for (int pair = 0; pair < pairs; pair++)
            tiles[pair / TILE][pair % TILE][query] = from[pair];
    }
    MEMORY_SEEN();
    _tile_loadd(4, tiles[0], 64);
    _tile_loadd(5, tiles[1], 64);
    _tile_loadd(6, tiles[2], 64);
    _tile_loadd(7, tiles[3], 64);
    MEMORY_SEEN();
}

/* Products of 16 tokens' keys with all queries. */
static void scores(const state *now, int token, float *out)
{
    const int pitch = now->shape->kv_heads * now->shape->size * sizeof(bf16), size = now->shape->size;
    const bf16 *keys = stored(now, now->shape->keys, token);
    _tile_zero(0);
    _tile_loadd(1, keys, pitch);
    _tile_dpbf16ps(0, 1, 4);
    if (size > DEPTH) {
        _tile_loadd(2, keys + DEPTH, pitch);
        _tile_dpbf16ps(0, 2, 5);
    }
    if (size > 2 * DEPTH) {
        _tile_loadd(3, keys + 2 * DEPTH, pitch);
        _tile_dpbf16ps(0, 3, 6);
    }
    if (size > 3 * DEPTH) {
        _tile_loadd(1, keys + 3 * DEPTH, pitch);
        _tile_dpbf16ps(0, 1, 7);
    }
    _tile_stored(0, out, MOST_QUERIES * sizeof(float));
    MEMORY_SEEN();
}

/* Turns the scores of a stretch into weights; the factor by which what was summed before counts now. */
static __m512 weigh(state *now, int token, int count)
{
    const __m512 none = _mm512_set1_ps(-INFINITY), scale = _mm512_set1_ps(now->shape->scale);
    __m512 top = now->top, total = _mm512_setzero_ps();
    for (int each = 0; each < count; each++) {
        const __mmask16 sees = _mm512_cmplt_epi32_mask(_mm512_set1_epi32(token + each), now->limits);
        const __m512 score = _mm512_mask_mul_ps(none, sees, _mm512_loadu_ps(now->weights[each]), scale);
        top = _mm512_max_ps(top, score);
        _mm512_storeu_ps(now->weights[each], score);
    }
    for (int each = 0; each < count; each++) {
        const __mmask16 sees = _mm512_cmplt_epi32_mask(_mm512_set1_epi32(token + each), now->limits);
        const __m512 above = _mm512_sub_ps(_mm512_loadu_ps(now->weights[each]), top);
        const __m512 weight = _mm512_maskz_mov_ps(sees, vector_exp(above));
        total = _mm512_add_ps(total, weight);
        _mm512_storeu_ps(now->weights[each], weight);
    }
    const __m512 before = vector_exp(_mm512_sub_ps(now->top, top));
    now->total = _mm512_fmadd_ps(now->total, before, total);
    now->top = top;
    return before;
}

/* Adds the weighted values of a stretch to the sums of `queries` queries from `first` on. */
static inline __attribute__((always_inline)) void add(
    state *now, int first, const int queries, int token, int count, const float *before)
{
    const int pitch = now->shape->kv_heads * now->shape->size;
    for (int part = 0; part < now->shape->size; part += 2 * LANES) {
        __m512 even[TOGETHER], odd[TOGETHER];
        for (int query = 0; query < queries; query++) {
            const __m512 factor = _mm512_set1_ps(before[first + query]);
            even[query] = _mm512_mul_ps(factor, _mm512_loadu_ps(now->sums[first + query] + part));
            odd[query] = _mm512_mul_ps(factor, _mm512_loadu_ps(now->sums[first + query] + part + LANES));
        }
        for (int begin = 0; begin < count; begin += TILE) {
            const bf16 *values = stored(now, now->shape->values, token + begin) + part;
            const int end = count - begin < TILE ? count : begin + TILE;
            for (int each = begin; each < end; each++, values += pitch) {
                const __m512i pairs = _mm512_loadu_si512(values);
                const __m512 low = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
                const __m512 high = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff0000)));
                for (int query = 0; query < queries; query++) {
                    const __m512 weight = _mm512_set1_ps(now->weights[each][first + query]);
                    even[query] = _mm512_fmadd_ps(weight, low, even[query]);
                    odd[query] = _mm512_fmadd_ps(weight, high, odd[query]);
                }
            }
        }
        for (int query = 0; query < queries; query++) {
            _mm512_storeu_ps(now->sums[first + query] + part, even[query]);
            _mm512_storeu_ps(now->sums[first + query] + part + LANES, odd[query]);
        }
    }
}

static void add_all(state *now, int token, int count, __m512 before)
{
    float factors[MOST_QUERIES];
    _mm512_storeu_ps(factors, before);
    for (int first = 0; first < now->queries; first += TOGETHER) {
        switch (now->queries - first) { /* so that the compiler knows the number of registers */
        case 1: add(now, first, 1, token, count, factors); break;
        case 2: add(now, first, 2, token, count, factors); break;
        case 3: add(now, first, 3, token, count, factors); break;
        case 4: add(now, first, 4, token, count, factors); break;
        case 5: add(now, first, 5, token, count, factors); break;
        case 6: add(now, first, 6, token, count, factors); break;
        case 7: add(now, first, 7, token, count, factors); break;
        default: add(now, first, 8, token, count, factors);
        }
    }
}

static void give(const state *now, int first)
{
    const attention *shape = now->shape;
    const int group = shape->heads / shape->kv_heads;
    float totals[MOST_QUERIES];
    _mm512_storeu_ps(totals, now->total);
    for (int query = 0; query < now->queries; query++) {
        const int64_t row = now->span->row + first + query / group;
        const int64_t head = now->head * group + query % group;
        bf16 *to = shape->found + (row * shape->heads + head) * shape->size;
        const __m512 share = _mm512_set1_ps(1.0f / totals[query]);
        for (int part = 0; part < shape->size; part += 2 * LANES) {
            const __m512 even = _mm512_mul_ps(share, _mm512_loadu_ps(now->sums[query] + part));
            const __m512 odd = _mm512_mul_ps(share, _mm512_loadu_ps(now->sums[query] + part + LANES));
            const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even));
            const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd));
            _mm512_storeu_si512(to + part, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
        }
    }
}

void attend(const attention *shape, const span *span, int first, int rows, int head)
{
    const int group = shape->heads / shape->kv_heads;
    state now;
    now.shape = shape;
    now.span = span;
    now.head = head;
    now.queries = rows * group;
    memset(now.sums, 0, now.queries * sizeof now.sums[0]);
    int32_t limits[MOST_QUERIES];
    for (int query = 0; query < MOST_QUERIES; query++)
        limits[query] = span->start + first + 1 + (query < now.queries ? query / group : 0);
    now.limit = span->start + first + rows;
    now.limits = _mm512_loadu_si512(limits);
    now.top = _mm512_set1_ps(-INFINITY);
    now.total = _mm512_setzero_ps();
    load_queries(&now, first);
    for (int token = 0; token < now.limit; token += STRETCH) {
        const int count = now.limit - token < STRETCH ? now.limit - token : STRETCH;
        for (int part = 0; part < count; part += TILE)
            scores(&now, token + part, now.weights[part]);
        add_all(&now, token, count, weigh(&now, token, count));
    }
    give(&now, first);
}
