// ldmatrix and mma.sync, emulated as rendezvous of a warp. PTX ISA 8.8, 9.7.14.5.
#ifndef OCT_TESTS_CUDA_EMULATION_EMULATED_MATRIX_H
#define OCT_TESTS_CUDA_EMULATION_EMULATED_MATRIX_H

#include "emulated_copies.h"

namespace cuda_emulation
{
CUDA_EMULATION_NO_TSAN static inline void check_full_warp(const char *instruction, Thread **lanes)
{
    for (int i = 0; i < 32; i++)
        if (!lanes[i])
            die("%s without lane %d: all 32 must take part", instruction, i);
}

struct MatrixLoad {
    const void *row; // 16 bytes: lane 8 m + r names row r of matrix m
    uint32_t result[4];
};

CUDA_EMULATION_NO_TSAN static inline void matrix_load_combine(Thread **lanes, unsigned)
{
    check_full_warp("ldmatrix", lanes);
    for (int lane = 0; lane < 32; lane++)
        for (int matrix = 0; matrix < 4; matrix++) {
            const MatrixLoad *row = (const MatrixLoad *)lanes[matrix * 8 + lane / 4]->payload;
            ((MatrixLoad *)lanes[lane]->payload)->result[matrix] = ((const uint32_t *)row->row)[lane % 4];
        }
}

struct MatrixProduct {
    const uint32_t *a, *b; // fragments: 4 and 2 registers, two bf16 each
    float *d;              // fragment: 4 registers
};

CUDA_EMULATION_NO_TSAN static inline float bf16_of_pair(uint32_t pair, int which)
{
    uint32_t bits = which ? pair & 0xffff0000u : pair << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Register i of lane 4 g + t holds of A the rows g + 8 (i & 1) and columns 2 t + 8 (i >> 1) and the next, of
// B the rows 2 t + 8 i and the next and column g, of D the row g + 8 (i >> 1) and column 2 t + (i & 1).
CUDA_EMULATION_NO_TSAN static inline void matrix_product_combine(Thread **lanes, unsigned)
{
    check_full_warp("mma.sync", lanes);
    float a[16][16], b[8][16];
    for (int lane = 0; lane < 32; lane++) {
        const MatrixProduct *mine = (const MatrixProduct *)lanes[lane]->payload;
        int g = lane / 4, t = lane % 4;
        for (int which = 0; which < 2; which++) {
            for (int i = 0; i < 4; i++)
                a[g + 8 * (i & 1)][2 * t + 8 * (i >> 1) + which] = bf16_of_pair(mine->a[i], which);
            for (int i = 0; i < 2; i++)
                b[g][2 * t + 8 * i + which] = bf16_of_pair(mine->b[i], which);
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        MatrixProduct *mine = (MatrixProduct *)lanes[lane]->payload;
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            const float *row = a[g + 8 * (i >> 1)], *column = b[2 * t + (i & 1)];
            float sum = mine->d[i];
            for (int k = 0; k < 16; k++)
                sum += row[k] * column[k]; // the product of two bf16 is exact in fp32
            mine->d[i] = sum;
        }
    }
}

} // namespace cuda_emulation

// ldmatrix.sync.aligned.m8n8.x4.shared.b16: r[m] of lane l gets elements 2 (l % 4) and the next of row l / 4
// of matrix m, whose rows are 16 bytes each at the addresses that lanes 8 m to 8 m + 7 name.
static inline void ldmatrix_x4(uint32_t r[4], const void *row, CUDA_EMULATION_HERE)
{
    static const char operation[] = "ldmatrix";
    cuda_emulation::check_alignment(row, 16);
    uint32_t touched = 0; // so that the sanitizers see this lane read its row
    for (int i = 0; i < 4; i++)
        touched += ((const volatile uint32_t *)row)[i];
    (void)touched;
    cuda_emulation::MatrixLoad load{row, {}};
    cuda_emulation::warp_collective(~0u, operation, &load, cuda_emulation::matrix_load_combine, file, line);
    memcpy(r, load.result, sizeof load.result);
}

// mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32: d += a b, along k in rising order with one rounding a step.
// Which order and roundings a tensor core has is not documented: results on a device differ in their last bits.
static inline void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], CUDA_EMULATION_HERE)
{
    static const char operation[] = "mma.sync";
    cuda_emulation::MatrixProduct product{a, b, d};
    cuda_emulation::warp_collective(~0u, operation, &product, cuda_emulation::matrix_product_combine, file,
                                    line);
}

#endif
