// What the files of the scalar table give each other, and what the other tables take from it. Not for use
// outside kernels/cpu: the table (kernels.h) is.
#ifndef OCT_KERNELS_CPU_SCALAR_H
#define OCT_KERNELS_CPU_SCALAR_H

#include "kernels/cpu/kernels.h"

// Largest magnitudes below this are quantised to zeros: a 127th of them would be flushed.
#define OCT_QUANTIZE_SMALLEST 0x1.fcp-120f

// The dot columns of the scalar table.
void oct_scalar_fill_dots(oct_cpu_kernels *table);     // table->dot, with the form of each encoding
void oct_scalar_fill_dots_f32(oct_cpu_kernels *table); // table->dot_f32

// Operations; the contracts stand beside the table's members.
void oct_scalar_rms_norm(const float *x, const float *weight, int32_t n, float epsilon, float *out);
void oct_scalar_quantize(const float *x, int64_t width, int8_t *codes, oct_activation_group *groups);
void oct_scalar_round_bf16(const float *x, int64_t width, uint16_t *out);
void oct_scalar_silu_multiply(const float *gate, const float *up, int64_t n, float *out);
void oct_scalar_add(float *to, const float *from, int64_t n);
void oct_scalar_add_tree(float *to, const float *const *nodes, const uint8_t *merges, int32_t count, int64_t n);
void oct_scalar_rope(float *x, const float *table, int32_t dims, oct_rope_convention convention);
void oct_scalar_store_key_value(uint16_t *page, int32_t head_dim, int32_t position, const float *key,
                                const float *value);
void oct_scalar_attention_split(const oct_attention *attention);
void oct_scalar_attention_merge(const float *states, int64_t stride, int32_t splits, int32_t head_dim,
                                float *out);

// The lane tree over 16 lanes: i + (i + 8), then i + 4, i + 2, i + 1.
float oct_scalar_lane_tree(const float lanes[16]);

#endif
