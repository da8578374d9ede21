// mma and ldmatrix (PTX ISA, 9.7.14.5). The places of a fragment's elements are written down here as the ISA
// has them and not taken from the emulated instructions: so the two check each other.
//
// The sum runs along k in rising order from the accumulator on, one fp32 rounding a step, as in the emulated
// instructions. A tensor core's order and roundings are its own.
#include "ptx_rounding.h"
#include "ptx_types.h"

namespace ptx
{

namespace
{

using cuda_emulation::Thread;

constexpr int LANES = 32, ROWS = 16, COLUMNS = 8;
enum type { TYPE_BF16, TYPE_F16 };

struct fragments {
    int depth; // columns of a, rows of b: 16 or 8
    type of;
    uint32_t a[4], b[2];
    float c[4];
};

CUDA_EMULATION_NO_TSAN float half_of(uint32_t pair, int which, type of)
{
    uint16_t bits = static_cast<uint16_t>(pair >> (16 * which));
    if (of == TYPE_BF16)
        return from_bits<float>(static_cast<uint64_t>(bits) << 16);
    return static_cast<float>(half_value(bits, F16));
}

// Element e of lane 4 group + member:
//   a (m16): row = group, + 8 where e is 2, 3, 6, 7; column = 2 member + (e mod 2), + 8 where e >= 4
//   b (n8):  row = 2 member + (e mod 2), + 8 where e >= 2; column = group
//   c, d:    row = group, + 8 where e >= 2; column = 2 member + (e mod 2)
CUDA_EMULATION_NO_TSAN void multiply_combine(Thread **lanes, unsigned)
{
    float a[ROWS][16], b[16][COLUMNS];
    int depth = static_cast<fragments *>(lanes[0]->payload)->depth;
    for (int lane = 0; lane < LANES; lane++) {
        const fragments *f = static_cast<fragments *>(lanes[lane]->payload);
        int group = lane >> 2, member = lane & 3;
        for (int e = 0; e < depth / 2; e++)
            a[group + (e & 2 ? 8 : 0)][2 * member + (e & 1) + (e >= 4 ? 8 : 0)] =
                half_of(f->a[e / 2], e & 1, f->of);
        for (int e = 0; e < depth / 4; e++)
            b[2 * member + (e & 1) + (e >= 2 ? 8 : 0)][group] = half_of(f->b[e / 2], e & 1, f->of);
    }
    for (int lane = 0; lane < LANES; lane++) {
        fragments *f = static_cast<fragments *>(lanes[lane]->payload);
        for (int e = 0; e < 4; e++) {
            int row = (lane >> 2) + (e >= 2 ? 8 : 0), column = 2 * (lane & 3) + (e & 1);
            for (int k = 0; k < depth; k++)
                f->c[e] += a[row][k] * b[k][column]; // exact in fp32, for bf16 as for f16
        }
    }
}

template <type OF, int DEPTH> void multiply(thread &t, const instruction &i)
{
    static const char name[] = "mma.sync";
    fragments mine = {DEPTH, OF, {}, {}, {}};
    for (uint32_t r = 0; r < DEPTH / 4; r++)
        mine.a[r] = element_of<uint32_t>(t, i, 1, r);
    for (uint32_t r = 0; r < DEPTH / 8; r++)
        mine.b[r] = element_of<uint32_t>(t, i, 2, r);
    for (uint32_t r = 0; r < 4; r++)
        mine.c[r] = element_of<float>(t, i, 3, r);
    if (cuda_emulation::warp_collective(~0u, name, &mine, multiply_combine, t.program->path.c_str(),
                                        i.line) != ~0u)
        die_at(t, i, "all 32 lanes must take part");
    for (uint32_t r = 0; r < 4; r++)
        set_element(t, i, 0, r, mine.c[r]);
}

struct matrix_rows {
    const uint16_t *row; // lane 8 m + r names row r of matrix m
    int matrices;
    bool transposed;
    uint32_t result[4];
};

CUDA_EMULATION_NO_TSAN void load_combine(Thread **lanes, unsigned)
{
    for (int lane = 0; lane < LANES; lane++) {
        matrix_rows *mine = static_cast<matrix_rows *>(lanes[lane]->payload);
        for (int m = 0; m < mine->matrices; m++)
            for (int half = 0; half < 2; half++) {
                int row = lane / 4, column = 2 * (lane % 4) + half;
                if (mine->transposed)
                    std::swap(row, column);
                uint32_t element = static_cast<matrix_rows *>(lanes[8 * m + row]->payload)->row[column];
                mine->result[m] |= element << (16 * half);
            }
    }
}

// Choice 0: trans.
template <int MATRICES> void load_matrices(thread &t, const instruction &i)
{
    static const char name[] = "ldmatrix.sync";
    matrix_rows mine = {nullptr, MATRICES, i.choice[0] != NO_CHOICE, {}};
    if (cuda_emulation::cur->lane < 8 * MATRICES) {
        mine.row = reinterpret_cast<const uint16_t *>(shared_address(t, i, 1, 16, 16));
        volatile uint16_t touched; // here the sanitizers see this lane read its row
        for (int column = 0; column < 8; column++)
            touched = mine.row[column];
        (void)touched;
    }
    if (cuda_emulation::warp_collective(~0u, name, &mine, load_combine, t.program->path.c_str(), i.line) !=
        ~0u)
        die_at(t, i, "all 32 lanes must take part");
    for (uint32_t m = 0; m < MATRICES; m++)
        set_element(t, i, 0, m, mine.result[m]);
}

} // namespace

void add_matrix_forms(form_table &table)
{
    table.add("mma sync aligned m16n8k16 row col f32 bf16 bf16 f32", "D4,S4,S2,S4", multiply<TYPE_BF16, 16>);
    table.add("mma sync aligned m16n8k16 row col f32 f16 f16 f32", "D4,S4,S2,S4", multiply<TYPE_F16, 16>);
    table.add("mma sync aligned m16n8k8 row col f32 bf16 bf16 f32", "D4,S2,S1,S4", multiply<TYPE_BF16, 8>);
    table.add("mma sync aligned m16n8k8 row col f32 f16 f16 f32", "D4,S2,S1,S4", multiply<TYPE_F16, 8>);
    table.add("ldmatrix sync aligned m8n8 x1 <trans>? shared|shared::cta b16", "D1,m", load_matrices<1>);
    table.add("ldmatrix sync aligned m8n8 x2 <trans>? shared|shared::cta b16", "D2,m", load_matrices<2>);
    table.add("ldmatrix sync aligned m8n8 x4 <trans>? shared|shared::cta b16", "D4,m", load_matrices<4>);
}

} // namespace ptx
