// From the bytes of a stage in shared memory (layout.h) to products: each encoding as a type whose constants and
// functions the compiler folds into one kernel of it.
#ifndef OCT_KERNELS_CUDA_WEIGHTS_H
#define OCT_KERNELS_CUDA_WEIGHTS_H

#include "kernels/cuda/input.h"
#include "kernels/cuda/layout.h"

// What a stage is multiplied with: columns [first, first + 8 · tiles) of a prepared input.
typedef struct oct_columns {
    oct_prepared x;
    int first;
} oct_columns;

// A lane's fragments of the columns, from one unit on: registers of two mma's for each column tile. Columns that are not
// there are zero.
template <int N> struct oct_fragments {
    const uint4 *at;
    int step; // from unit to unit
    bool real[N];

    __device__ __forceinline__ oct_fragments(const oct_columns &columns, int unit)
    {
        step = columns.x.columns * 4;
        at = columns.x.fragments + static_cast<size_t>(unit) * step + columns.first * 4 + oct_lane();
#pragma unroll
        for (int n = 0; n < N; n++)
            real[n] = columns.first + n * 8 + oct_lane() / 4 < columns.x.columns;
    }

    __device__ __forceinline__ uint4 of_tile(int n) const
    {
        return real[n] ? at[n * 32] : make_uint4(0, 0, 0, 0);
    }

    __device__ __forceinline__ void next(void)
    {
        at += step;
    }
};

// The sums of half a unit's inputs for the columns 2t and 2t + 1 of column tile n.
OCT_DEVICE float2 oct_column_sums(const oct_columns &columns, int unit, int half, int n)
{
    const size_t at =
        (static_cast<size_t>(unit) * 2 + half) * columns.x.columns8 + columns.first + n * 8 + oct_lane() % 4 * 2;
    return columns.first + n * 8 < columns.x.columns8 ? *reinterpret_cast<const float2 *>(columns.x.sums + at)
                                                      : make_float2(0, 0);
}

// A value for the rows g and g + 8.
typedef struct oct_row_pair {
    float low, high;
} oct_row_pair;

OCT_DEVICE oct_row_pair oct_f16_pair(uint32_t pair)
{
    return {from_f16(pair & 0xffffu), from_f16(pair >> 16)};
}

// total = fmaf(factor of the row, value, total) for the four elements of a lane.
OCT_DEVICE void oct_add_scaled(float total[4], oct_row_pair factor, const float value[4])
{
    total[0] = fmaf(factor.low, value[0], total[0]);
    total[1] = fmaf(factor.low, value[1], total[1]);
    total[2] = fmaf(factor.high, value[2], total[2]);
    total[3] = fmaf(factor.high, value[3], total[3]);
}

struct oct_weights_bf16 {
    enum { UNIT_BYTES = 1024, STAGE_UNITS = 4, HEADER_BYTES = 0, MINIMUM = 0 };

    // total += the products of a stage: mma's from zero over all of it.
    template <int N>
    static __device__ __forceinline__ void add_stage(const uint8_t *stage, int units, const uint32_t *,
                                                     const oct_columns &columns, int unit, float total[N][4])
    {
        float sum[N][4] = {};
        oct_fragments<N> fragments(columns, unit);
#pragma unroll(N == 1 ? 4 : 2)
        for (int u = 0; u < units; u++, fragments.next()) {
            const uint4 *weights = reinterpret_cast<const uint4 *>(stage) + u * 64 + oct_lane();
            const uint4 first = weights[0], second = weights[32];
            const uint32_t a[2][4] = {{first.x, first.y, first.z, first.w}, {second.x, second.y, second.z, second.w}};
#pragma unroll
            for (int n = 0; n < N; n++) {
                const uint4 x = fragments.of_tile(n);
                const uint32_t b[2][2] = {{x.x, x.y}, {x.z, x.w}};
                mma_bf16(sum[n], a[0], b[0]);
                mma_bf16(sum[n], a[1], b[1]);
            }
        }
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                total[n][i] += sum[n][i];
    }
};

template <int LOW, int HIGH, int GROUP, oct_scale_kind SCALE, int ZERO, bool CODEBOOK> struct oct_integer_weights {
    static constexpr int SCALE_BYTES = oct_cuda_scale_bytes(SCALE, GROUP);
    static constexpr int HEADER_BYTES = OCT_CUDA_PAIRS * oct_cuda_header_bytes(SCALE);
    static constexpr int UNIT_BYTES = oct_cuda_record_bytes(LOW + HIGH, SCALE, GROUP);
    static constexpr int STAGE_UNITS = OCT_BLOCK_COLUMNS / OCT_UNIT;
    static constexpr bool MINIMUM =
        SCALE == OCT_SCALE_F16_MIN || SCALE == OCT_SCALE_FACTOR_U8 || SCALE == OCT_SCALE_FACTOR_U4;

    // A lane's codes of a plane of a unit, as words whose fields stand as layout.h says; 1 bit: spread to one word.
    template <int BITS> static __device__ __forceinline__ void load_plane(const uint8_t *plane, uint32_t words[4])
    {
        const uint8_t *at = plane + oct_lane() * 2 * BITS;
        if constexpr (BITS == 8) {
            const uint4 v = *reinterpret_cast<const uint4 *>(at);
            words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
        } else if constexpr (BITS == 4) {
            const uint2 v = *reinterpret_cast<const uint2 *>(at);
            words[0] = v.x, words[1] = v.y;
        } else if constexpr (BITS == 2) {
            words[0] = *reinterpret_cast<const uint32_t *>(at);
        } else {
            const uint32_t v = *reinterpret_cast<const uint16_t *>(at);
            words[0] = (v & 0xffu) | (v & 0xff00u) << 8;
        }
    }

    // The codes of pair `pair`, in the halves of a word, beside the bits `more`.
    template <int BITS>
    static __device__ __forceinline__ uint32_t take_pair(const uint32_t words[4], int pair, uint32_t more = 0)
    {
        constexpr int OF_WORD = BITS == 1 ? 8 : 16 / BITS;
        constexpr uint32_t MASK = ((1u << BITS) - 1) * 0x10001u;
        const uint32_t bits = words[pair / OF_WORD] >> pair % OF_WORD * BITS;
        return more == 0 ? bits & MASK : and_or(bits, MASK, more);
    }

    // Level + 1 of each of two codes.
    static __device__ __forceinline__ uint32_t look_up(uint32_t codes, const uint32_t *codebook)
    {
        const uint32_t selector = (codes | codes >> 8) & 0x0707u, upper = (codes >> 3 & 0x00010001u) * 0xffu;
        const uint32_t low = __byte_perm(codebook[0], codebook[1], selector);
        const uint32_t high = __byte_perm(codebook[2], codebook[3], selector);
        return ((low & ~upper) | (high & upper)) & 0x00ff00ffu;
    }

    // value − zero of two codes as two bf16, the codes beside the bits of 128 (but whole bytes and codebooks bare). 128 +
    // code is a bf16 with the code in its low bits, while that is below
    // 128; larger codes get their top bit back through what is subtracted: 128 instead of 256. Both sums are exact.
    static __device__ __forceinline__ uint32_t to_bf16(uint32_t codes, const uint32_t *codebook)
    {
        if constexpr (CODEBOOK)
            codes = look_up(codes, codebook);
        if constexpr (CODEBOOK || LOW + HIGH == 8) {
            static_assert(ZERO == (CODEBOOK ? 127 : 128), "the subtrahend is made for this zero");
            return add_exact_bf16x2((codes & 0x007f007fu) | 0x43004300u, (codes & 0x00800080u) ^ 0xc380c380u);
        } else {
            constexpr uint32_t LESS = 0xc300u + ZERO; // −(128 + zero)
            return add_exact_bf16x2(codes, LESS * 0x10001u);
        }
    }

    static __device__ __forceinline__ void unpack(const uint8_t *record, const uint32_t *codebook, uint32_t a[2][4])
    {
        uint32_t low[4], high[4];
        load_plane<LOW>(record, low);
        if constexpr (HIGH > 0)
            load_plane<HIGH>(record + 64 * LOW, high);
#pragma unroll
        for (int pair = 0; pair < OCT_CUDA_PAIRS; pair++) {
            constexpr uint32_t ONE = CODEBOOK || LOW + HIGH == 8 ? 0 : 0x43004300u; // as to_bf16() wants it
            uint32_t codes = take_pair<LOW>(low, pair, ONE);
            if constexpr (HIGH > 0)
                codes |= take_pair<HIGH>(high, pair) << LOW;
            a[pair / 4][pair % 4] = to_bf16(codes, codebook);
        }
    }

    // The factors D and M of a block for a lane's rows.
    struct header {
        oct_row_pair scale, minimum;
    };

    static __device__ __forceinline__ header load_header(const uint8_t *stage)
    {
        const int g = oct_lane() / 4;
        header h = {{1, 1}, {1, 1}};
        if constexpr (HEADER_BYTES == 32) {
            h.scale = oct_f16_pair(reinterpret_cast<const uint32_t *>(stage)[g]);
        } else if constexpr (HEADER_BYTES == 64) {
            const uint2 v = reinterpret_cast<const uint2 *>(stage)[g];
            h.scale = oct_f16_pair(v.x);
            h.minimum = oct_f16_pair(v.y);
        }
        return h;
    }

    static __device__ __forceinline__ float factor(float of_block, uint32_t of_group)
    {
        return of_block * static_cast<float>(static_cast<int>(of_group));
    }

    // Scale and minimum of group `group` of a unit for a lane's rows.
    static __device__ __forceinline__ void load_scale(const uint8_t *record, int group, const header &h,
                                                      oct_row_pair *scale, oct_row_pair *minimum)
    {
        const uint8_t *at =
            record + 64 * (LOW + HIGH) + oct_lane() / 4 * SCALE_BYTES + group * (SCALE_BYTES * GROUP / 32);
        if constexpr (SCALE == OCT_SCALE_F16) {
            *scale = oct_f16_pair(*reinterpret_cast<const uint32_t *>(at));
        } else if constexpr (SCALE == OCT_SCALE_F16_MIN) {
            const uint2 v = *reinterpret_cast<const uint2 *>(at);
            *scale = oct_f16_pair(v.x);
            *minimum = oct_f16_pair(v.y);
        } else if constexpr (SCALE == OCT_SCALE_FACTOR_S8) {
            const int v = *reinterpret_cast<const int16_t *>(at);
            scale->low = h.scale.low * static_cast<float>(static_cast<int8_t>(v & 0xff));
            scale->high = h.scale.high * static_cast<float>(v >> 8);
        } else if constexpr (SCALE == OCT_SCALE_FACTOR_U8) {
            const uint32_t v = *reinterpret_cast<const uint32_t *>(at);
            *scale = {factor(h.scale.low, v & 0xffu), factor(h.scale.high, v >> 8 & 0xffu)};
            *minimum = {factor(h.minimum.low, v >> 16 & 0xffu), factor(h.minimum.high, v >> 24)};
        } else {
            const uint32_t v = *reinterpret_cast<const uint16_t *>(at);
            *scale = {factor(h.scale.low, v & 0xfu), factor(h.scale.high, v >> 8 & 0xfu)};
            *minimum = {factor(h.minimum.low, v >> 4 & 0xfu), factor(h.minimum.high, v >> 12)};
        }
    }

    // Adds what the minimum of a group contributes: minimum · sum of the group's inputs.
    static __device__ __forceinline__ void add_minimum(const oct_columns &columns, int unit, int group, int n,
                                                       oct_row_pair minimum, float total[4])
    {
        float2 sums = oct_column_sums(columns, unit, group, n);
        if constexpr (GROUP == 32) {
            const float2 second = oct_column_sums(columns, unit, 1, n);
            sums.x += second.x;
            sums.y += second.y;
        }
        const float value[4] = {sums.x, sums.y, sums.x, sums.y};
        oct_add_scaled(total, minimum, value);
    }

    // total += the products of a unit.
    template <int N>
    static __device__ __forceinline__ void add_unit(const uint8_t *record, const header &h, const uint32_t *codebook,
                                                    const oct_fragments<N> &fragments, const oct_columns &columns,
                                                    int unit, float total[N][4])
    {
        uint32_t a[2][4];
        oct_row_pair scale[32 / GROUP], minimum[32 / GROUP];
        unpack(record, codebook, a);
#pragma unroll
        for (int group = 0; group < 32 / GROUP; group++)
            load_scale(record, group, h, &scale[group], &minimum[group]);
#pragma unroll
        for (int n = 0; n < N; n++) {
            const uint4 x = fragments.of_tile(n);
            const uint32_t b[2][2] = {{x.x, x.y}, {x.z, x.w}};
#pragma unroll
            for (int group = 0; group < 32 / GROUP; group++) {
                float sum[4] = {};
                mma_bf16(sum, a[group], b[group]);
                if constexpr (GROUP == 32)
                    mma_bf16(sum, a[1], b[1]);
                oct_add_scaled(total[n], scale[group], sum);
                if constexpr (MINIMUM)
                    add_minimum(columns, unit, group, n, minimum[group], total[n]);
            }
        }
    }

    // total += the products of a stage.
    template <int N>
    static __device__ __forceinline__ void add_stage(const uint8_t *stage, int units, const uint32_t *codebook,
                                                     const oct_columns &columns, int unit, float total[N][4])
    {
        const header h = load_header(stage);
        const uint8_t *record = stage + HEADER_BYTES;
        oct_fragments<N> fragments(columns, unit);
#pragma unroll(N > 2 ? 1 : 2)
        for (int u = 0; u < units; u++, record += UNIT_BYTES, fragments.next())
            add_unit<N>(record, h, codebook, fragments, columns, unit + u, total);
    }
};

#endif
