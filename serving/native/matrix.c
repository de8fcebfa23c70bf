#include "matrix.h"

#define TILE_NUMBERS (TILE * DEPTH)
#define AHEAD 1024 /* bytes, one tile; measured: loads of tiles alone get three quarters of what memory gives */

static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} eight_tiles = {.palette = 1, .bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

void tiles_begin(void) { _tile_loadconfig(&eight_tiles); }

void tiles_end(void) { _tile_release(); }

int64_t matrix_packed(int64_t outputs, int64_t inputs) { return (outputs + PANEL - 1) / PANEL * PANEL * inputs; }

void matrix_pack(const bf16 *weights, int64_t outputs, int64_t inputs, bf16 *packed)
{
    for (int64_t panel = 0; panel < outputs; panel += PANEL)
        for (int64_t depth = 0; depth < inputs; depth += DEPTH)
            for (int64_t tile = panel; tile < panel + PANEL; tile += TILE)
                for (int pair = 0; pair < DEPTH / 2; pair++)
                    for (int64_t output = tile; output < tile + TILE; output++, packed += 2) {
                        const bf16 *from = weights + output * inputs + depth + 2 * pair;
                        packed[0] = output < outputs ? from[0] : 0;
                        packed[1] = output < outputs ? from[1] : 0;
                    }
}

static inline void fetch(const bf16 *weights)
{
    const char *from = (const char *)weights + AHEAD;
    for (int line = 0; line < 2 * TILE_NUMBERS * (int)sizeof(bf16); line += 64)
        _mm_prefetch(from + line, _MM_HINT_T0);
}

void matrix_panel(const bf16 *x, int rows, int inputs, const bf16 *panel, float *sums)
{
    const int pitch = inputs * sizeof(bf16), out = PANEL * sizeof(float);
    MEMORY_SEEN();
    for (int row = 0; row < rows; row += 2 * TILE, x += 2 * TILE * inputs, sums += 2 * TILE * PANEL) {
        const bf16 *weights = panel;
        const int two = rows - row > TILE;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int depth = 0; depth < inputs; depth += DEPTH, weights += 2 * TILE_NUMBERS) {
            if (row == 0)
                fetch(weights);
            _tile_loadd(6, weights, 64);
            _tile_loadd(4, x + depth, pitch);
            _tile_loadd(7, weights + TILE_NUMBERS, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            if (two) {
                _tile_loadd(5, x + TILE * inputs + depth, pitch);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
        _tile_stored(0, sums, out);
        _tile_stored(1, sums + TILE, out);
        if (two) {
            _tile_stored(2, sums + TILE * PANEL, out);
            _tile_stored(3, sums + TILE * PANEL + TILE, out);
        }
    }
    MEMORY_SEEN();
}
