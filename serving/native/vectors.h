/* Sixteen numbers at a time (AVX-512). */
#pragma once

#include <immintrin.h>
#include <stdint.h>

typedef uint16_t bf16;

#define LANES 16

/* GCC does not know that tile instructions read and write memory: between them and what others read or wrote. */
#define MEMORY_SEEN() __asm__ volatile("" ::: "memory")

/* e^x to six digits, for x where the result is a normal number; 0 and the largest such beyond. */
static inline __m512 vector_exp(__m512 x)
{
    x = _mm512_max_ps(_mm512_min_ps(x, _mm512_set1_ps(87.0f)), _mm512_set1_ps(-87.0f));
    const __m512 power = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
    const __m512 whole = _mm512_roundscale_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 rest = _mm512_sub_ps(power, whole);
    __m512 sum = _mm512_set1_ps(0.00133335581f); /* Taylor's series of 2^x */
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(0.00961812911f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(0.0555041087f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(0.240226507f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(0.693147181f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(sum, whole);
}

static inline __m512 vector_from(const bf16 *x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x)), 16));
}

static inline void vector_to(bf16 *x, __m512 value)
{
    _mm256_storeu_si256((void *)x, (__m256i)_mm512_cvtneps_pbh(value));
}
