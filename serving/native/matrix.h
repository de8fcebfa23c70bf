/* Matrices of bfloat16 times weights that are packed for the processor's tiles (AMX). */
#pragma once

#include "vectors.h"

#define TILE 16  /* rows of a tile, and outputs of a tile of weights */
#define DEPTH 32 /* inputs of a tile */
#define PANEL 32 /* outputs of a panel of weights: two tiles side by side */

/* Tiles of 16 rows of 64 bytes, all eight; for this thread until `tiles_end`. */
void tiles_begin(void);
void tiles_end(void);

/* Numbers that the packed weights take. */
int64_t matrix_packed(int64_t outputs, int64_t inputs);

/* Packs `outputs` x `inputs` weights, given row by row, into panels that are read in order: for each 32 inputs two
 * tiles of 16 outputs, whose rows are pairs of inputs. `inputs` is a multiple of DEPTH; the last panel is filled up with
 * zeros. */
void matrix_pack(const bf16 *weights, int64_t outputs, int64_t inputs, bf16 *packed);

/* `rows` rows of x, with room up to a multiple of TILE, times one panel: PANEL sums for each row, and as much room. */
void matrix_panel(const bf16 *x, int rows, int inputs, const bf16 *panel, float *sums);
