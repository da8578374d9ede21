// What all matrices of the backend rest on: an element of an mma.sync m16n8k16 is a function of its row, its column,
// what it is added to and the order along K, and of nothing else: neither of its place among the 16 rows and 8 columns
// nor of what stands beside it. And how far it may be from the exact sum: the bounds of the other tests allow 2 u an
// addition (u = 2^-24), 32 u · Σ |terms| for an mma, because a tensor core may cut off what it does not round.
//
// On a GPU it also says what kind of sum that is, by the experiments of Fasi, Higham, Mikaitis and Pranesh, "Numerical
// behavior of NVIDIA tensor cores", PeerJ Computer Science 7 (2021) e330, sections 3 and 4. Those lines are findings,
// not checks.
#include "kernel_test.h"

#include <algorithm>

#include "tensor_core.h"

namespace
{
enum { K = 16, KINDS = 10, POOL = 5 * KINDS, MIXED = ON_DEVICE ? 100000 : 1000, CHUNK = 4096 };
constexpr double ALLOWED = 32; // u · Σ |terms|

struct vector {
    uint16_t at[K];
};

// Rows, columns and, for each pair, what the product is added to.
struct pool {
    std::vector<vector> rows, columns;
    std::vector<float> c;      // [rows][columns]
    std::vector<float> alone;  // the results, each computed with zeros around
};

float power_of_two(int lowest, int highest)
{
    return ldexpf(random_below(2) ? 1.0f : -1.0f, lowest + random_below(highest - lowest + 1));
}

float element(int kind, int k, const vector &so_far)
{
    switch (kind) {
    case 0:
        return random_number();
    case 1: // numbers of very different sizes
        return random_number() * power_of_two(-20, 20);
    case 2: // weights of integer encodings
        return (float)(random_below(257) - 128);
    case 3: // what cancels, and a little beside it
        return k % 2 ? -oct_bf16_to_f32(so_far.at[k - 1]) : k < 8 ? power_of_two(0, 12) : power_of_two(-24, -8);
    case 4: // sums that overflow
        return power_of_two(60, 127);
    case 5: // products that are denormal or vanish
        return power_of_two(-100, -50);
    case 6: // denormal bf16, both zeros
        return random_below(2) ? power_of_two(-133, -126) : power_of_two(0, 0) * 0.0f;
    case 7: // numbers that are none
        return random_below(4) ? random_number() : random_below(2) ? NAN : power_of_two(0, 0) * INFINITY;
    case 8: // one large number among those that alignment cuts off
        return k == 3 ? 1.0f : 1.9921875f * power_of_two(-14, -10);
    default: // ties
        return k == 0 ? 1.0f : power_of_two(-13, -11);
    }
}

vector make_vector(int kind)
{
    vector v = {};
    for (int k = 0; k < K; k++)
        v.at[k] = oct_f32_to_bf16(element(kind, k, v));
    return v;
}

double product(const pool &p, int row, int column, int k)
{
    const float a = oct_bf16_to_f32(p.rows[(size_t)row].at[k]), b = oct_bf16_to_f32(p.columns[(size_t)column].at[k]);
    return (double)a * (double)b;
}

// Nothing, something of any size, or nearly the opposite of what is added.
float make_addend(const pool &p, int row, int column)
{
    double sum = 0;
    for (int k = 0; k < K; k++)
        sum += product(p, row, column, k);
    switch (random_below(4)) {
    case 0:
        return 0;
    case 1:
        return random_number() * power_of_two(-30, 30);
    case 2:
        return (float)-sum;
    default:
        return random_number() * (float)sum;
    }
}

pool make_pool(void)
{
    pool p;
    for (int i = 0; i < POOL; i++) {
        p.rows.push_back(make_vector(i % KINDS));
        p.columns.push_back(make_vector(i % KINDS));
    }
    for (int row = 0; row < POOL; row++)
        for (int column = 0; column < POOL; column++)
            p.c.push_back(make_addend(p, row, column));
    return p;
}

void multiply(std::vector<oct_tensor_product> &products)
{
    const Array<oct_tensor_product> device(products);
    must(oct_tensor_multiply(device.at, (int)products.size()), "mma");
    products = device.values();
}

void set_row(oct_tensor_product &p, int place, const vector &row)
{
    memcpy(p.rows[place], row.at, sizeof row.at);
}

void set_column(oct_tensor_product &p, int place, const vector &column)
{
    memcpy(p.columns[place], column.at, sizeof column.at);
}

// Every pair by itself, at row 0 and column 0.
void multiply_alone(pool &p)
{
    std::vector<oct_tensor_product> products((size_t)(POOL * POOL));
    for (size_t i = 0; i < products.size(); i++) {
        products[i] = {};
        set_row(products[i], 0, p.rows[i / POOL]);
        set_column(products[i], 0, p.columns[i % POOL]);
        products[i].c[0][0] = p.c[i];
    }
    multiply(products);
    for (const oct_tensor_product &one : products)
        p.alone.push_back(one.d[0][0]);
}

// Which row and column of the pool stand in which place.
struct arrangement {
    int row[16], column[8];
};

void check_arrangement(const pool &p, const arrangement &a, const oct_tensor_product &found)
{
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            const float value = found.d[row][column], alone = p.alone[(size_t)(a.row[row] * POOL + a.column[column])];
            if (!same_bits(value, alone) && !(std::isnan(value) && std::isnan(alone)))
                fail("row %d of the pool with column %d: %a alone, %a at row %d, column %d", a.row[row],
                     a.column[column], (double)alone, (double)value, row, column);
        }
}

// Any rows and columns in any places, the same ones several times too.
void check_mixed(const pool &p, int count)
{
    std::vector<arrangement> arrangements((size_t)count);
    std::vector<oct_tensor_product> products((size_t)count);
    for (size_t i = 0; i < products.size(); i++) {
        const int different = 1 + random_below(POOL);
        for (int place = 0; place < 16; place++) {
            arrangements[i].row[place] = random_below(different);
            set_row(products[i], place, p.rows[(size_t)arrangements[i].row[place]]);
        }
        for (int place = 0; place < 8; place++) {
            arrangements[i].column[place] = random_below(POOL);
            set_column(products[i], place, p.columns[(size_t)arrangements[i].column[place]]);
        }
        for (int row = 0; row < 16; row++)
            for (int column = 0; column < 8; column++) {
                products[i].c[row][column] =
                    p.c[(size_t)(arrangements[i].row[row] * POOL + arrangements[i].column[column])];
                products[i].d[row][column] = NAN;
            }
    }
    multiply(products);
    for (size_t i = 0; i < products.size(); i++)
        check_arrangement(p, arrangements[i], products[i]);
}

// The size of an operand as the tensor core aligns it. On an H100 sums of products of 2^-133 … 2^-126 by 2^60 … 2^127
// were up to 38.7 u · Σ |terms| from exact, and no others above ALLOWED: a denormal operand is not normalised first, its
// product is aligned, and cut off, as if it were as large as 2^-126 (a finding below says how many bits that leaves).
double aligned_size(uint16_t operand)
{
    const double size = std::fabs((double)oct_bf16_to_f32(operand));
    return size > 0 && size < 0x1p-126 ? 0x1p-126 : size;
}

bool has_denormals(const vector &v)
{
    return std::any_of(v.at, v.at + K, [](uint16_t x) {
        return std::fpclassify(oct_bf16_to_f32(x)) == FP_SUBNORMAL;
    });
}

// The largest distances from exact that were found.
struct worst_distances {
    double normal = 0, denormal = 0; // without and with denormal operands
};

// How far the results are from exact, in u · Σ |terms|, of those that neither overflow nor come near denormals; a term
// counts as large as its operands are aligned.
worst_distances check_distance(const pool &p)
{
    worst_distances worst;
    for (int row = 0; row < POOL; row++)
        for (int column = 0; column < POOL; column++) {
            const vector &a = p.rows[(size_t)row], &b = p.columns[(size_t)column];
            const double c = (double)p.c[(size_t)(row * POOL + column)];
            double exact = c, size = std::fabs(c); // in double: what that rounds away is nothing beside u
            for (int k = 0; k < K; k++) {
                exact += product(p, row, column, k);
                size += aligned_size(a.at[k]) * aligned_size(b.at[k]);
            }
            if (!(size < 0x1p127) || size < 0x1p-90)
                continue;
            const double found = (double)p.alone[(size_t)(row * POOL + column)];
            const double distance = std::fabs(found - exact) / (0x1p-24 * size);
            double &most = has_denormals(a) || has_denormals(b) ? worst.denormal : worst.normal;
            most = std::fmax(most, distance);
            if (!(distance <= ALLOWED))
                fail("row %d of the pool with column %d: %.9g, exactly %.17g: off by %.1f u, allowed %.0f", row, column,
                     found, exact, distance, ALLOWED);
        }
    return worst;
}

// --- what kind of sum it is ----------------------------------------------------------------------------------------

// A product (each operand of at most 8 significant bits) in its place along K.
struct term {
    int place;
    float row, column = 1;
};

// c + Σ terms.
float sum_of(float c, const std::vector<term> &terms)
{
    std::vector<oct_tensor_product> one(1);
    one[0] = {};
    for (const term &t : terms) {
        one[0].rows[0][t.place] = oct_f32_to_bf16(t.row);
        one[0].columns[0][t.place] = oct_f32_to_bf16(t.column);
    }
    one[0].c[0][0] = c;
    multiply(one);
    return one[0].d[0][0];
}

// The smallest power of two that survives beside ± 1 in three places along K.
int smallest_kept(int one, int little, int minus_one)
{
    int bits = 0;
    while (bits < 60 && sum_of(0, {{one, 1.0f}, {little, ldexpf(1, -bits - 1)}, {minus_one, -1.0f}}) != 0)
        bits++;
    return bits;
}

// The same beside ± 2^-6 as 2^-133 · 2^127: fewer where denormal operands are aligned as if they were larger.
int smallest_kept_beside_denormal(void)
{
    int bits = 0;
    const term one = {0, 0x1p-133f, 0x1p127f}, minus_one = {2, -0x1p-133f, 0x1p127f};
    while (bits < 60 && sum_of(0, {one, {1, ldexpf(1, -bits - 7)}, minus_one}) != 0)
        bits++;
    return bits;
}

// Which places along K are added together with place 0 before anything else is: there, what is too small beside place 0
// is lost although c takes place 0 away again.
void print_groups(void)
{
    char map[K + 1] = "0";
    for (int k = 1; k < K; k++)
        map[k] = sum_of(-1, {{0, 1.0f}, {k, 0x1p-40f}}) == 0 ? '0' : '-';
    map[K] = 0;
    printf("  places along K that are added at once with place 0 and c: %s\n", map);
}

void print_findings(const worst_distances &worst)
{
    printf("  off by at most %.2f u * sum |terms| (the kernels' bounds allow %.0f); %.2f where operands are denormal, "
           "which count as 2^-126\n",
           worst.normal, ALLOWED, worst.denormal);
    const float up = sum_of(0, {{0, 1.0f}, {1, 1.5f * 0x1p-24f}});
    const float tie = sum_of(0, {{0, 1.0f}, {1, 0x1p-23f}, {2, 0x1p-24f}});
    printf("  1 + 1.5 * 2^-24 is %a: %s; 1 + 2^-23 + 2^-24 is %a\n", (double)up, up > 1 ? "rounded" : "cut off",
           (double)tie);
    printf("  bits kept below 1 in 1 + x - 1: %d in this order, %d as 1 - 1 + x, %d as x + 1 - 1\n",
           smallest_kept(0, 1, 2), smallest_kept(0, 2, 1), smallest_kept(1, 0, 2));
    printf("  bits kept below 2^-133 * 2^127: %d\n", smallest_kept_beside_denormal());
    print_groups();
    std::vector<oct_tensor_product> tiny(1);
    tiny[0] = {};
    tiny[0].rows[0][0] = tiny[0].columns[0][0] = oct_f32_to_bf16(0x1p-70f);
    multiply(tiny);
    const double denormal = (double)tiny[0].d[0][0];
    printf("  2^-70 * 2^-70 is %a: denormal sums are %s\n", denormal, denormal > 0 ? "kept" : "zero");
}
} // namespace

int main()
{
    begin_tests();
    pool p = make_pool();
    multiply_alone(p);
    for (int done = 0; done < MIXED; done += CHUNK) {
        shuffle();
        check_mixed(p, MIXED - done < CHUNK ? MIXED - done : CHUNK);
    }
    printf("  %d products of %d rows and %d columns: %s\n", (int)MIXED, (int)POOL, (int)POOL,
           test_failures == 0 ? "each element has the bits that it has alone" : "elements depend on other things");
    print_findings(check_distance(p));
    return end_tests("tensor core");
}
