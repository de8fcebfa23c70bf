/* Attention over keys and values that lie in blocks. */
#pragma once

#include "matrix.h"

#define MOST_QUERIES 16 /* that share a key head and are computed together */
#define MOST_SIZE 128

/* Consecutive tokens of one sequence. */
typedef struct {
    int32_t row, rows; /* of the step */
    int32_t start;     /* the position of the first */
    int32_t block;     /* where the sequence's blocks begin in the list of all */
} span;

typedef struct {
    int heads, kv_heads, size; /* `size` is a multiple of DEPTH */
    int block;                 /* tokens of a block, a multiple of TILE */
    float scale;
    const int32_t *blocks;     /* of all spans */
    const bf16 *queries;       /* (row, head, size) */
    const bf16 *keys, *values; /* (block, token, head, size) */
    bf16 *found;               /* (row, head, size) */
} attention;

/* Where a token of the span lies, counted in tokens. */
static inline int64_t place_of(const attention *shape, const span *span, int token)
{
    return (int64_t)shape->blocks[span->block + token / shape->block] * shape->block + token % shape->block;
}

/* How many consecutive tokens are computed together. */
int attention_rows(const attention *shape);

/* What `rows` tokens of the span from its `first` on find with the queries of one key head: each sees all before it and
 * itself. Nothing of what lies behind the last of them is used, whatever is there. Needs `tiles_begin`. */
void attend(const attention *shape, const span *span, int first, int rows, int head);
