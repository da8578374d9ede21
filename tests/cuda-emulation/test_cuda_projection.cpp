// Projections on the device: every encoding, 1 … 16 columns and wide ones, against a reference in double precision with
// the bound below; and what must not change a bit: the company of a column, the variant, where the input is prepared,
// the schedule of threads, the number of ranks that share granules.
//
// The bound. Let S be Σ |scale · level · x| + |minimum · x| of a row and column, x rounded to bf16 (exact here). With
// u = 2^-24: a group is at most 33 additions in the tensor core, which may truncate instead of rounding: 2u each (a
// bf16 stage of 128 columns: 129); sums of x are 5 roundings; every group's fmaf (two with a minimum) is one, and every
// addition of the tree: so |error| <= (66 + 5 + fmas + depth) · u · S, to first order; 1.01 for the rest.
#include "projection_test.h"

struct Expected {
    double value, size; // Σ w x, S of the bound
};

// The product of one row with the columns [first, last) of x.
static Expected expect(const Matrix &m, int64_t row, const float *x, int64_t first, int64_t last)
{
    Expected sum = {0, 0};
    for (int64_t k = first; k < last; k++) {
        const Weight &w = m.weights[(size_t)(row * m.columns + k)];
        sum.value += w.value() * (double)x[k - first];
        sum.size += (std::fabs(w.scale * w.level) + std::fabs(w.minimum)) * std::fabs((double)x[k - first]);
    }
    return sum;
}

// The factor of S, from the longest segment.
static double bound_of(const oct_cuda_plan &plan)
{
    const oct_encoding_info *info = oct_encoding_describe(plan.encoding);
    const bool minimum = info->scale == OCT_SCALE_F16_MIN || info->scale >= OCT_SCALE_FACTOR_U8;
    int longest = 0;
    for (int i = 0; i < plan.segment_count; i++)
        longest = std::max(longest, plan.segments[i].last - plan.segments[i].first);
    const int group = info->group ? info->group : 128, fmas = (longest / group + 2) * (minimum ? 2 : 1);
    return 1.01 * 0x1p-24 * (2 * (group + 1) + 5 + fmas + plan.depth + 1);
}

// --- split by rows: three matrices side by side -------------------------------------------------------------------

static void check_values(const char *what, const std::vector<const Matrix *> &matrices, const std::vector<float> &x,
                         int64_t width, int columns, const std::vector<float> &out, int64_t stride, double bound)
{
    for (int c = 0; c < columns; c++) {
        int64_t at = c * stride;
        for (const Matrix *m : matrices)
            for (int64_t row = 0; row < m->rows; row++, at++) {
                const Expected e = expect(*m, row, &x[(size_t)(c * width)], 0, width);
                if (!(std::fabs((double)out[(size_t)at] - e.value) <= bound * e.size + 1e-30))
                    fail("%s: row %d of column %d is %g, expected %g, bound %g", what, (int)row, c,
                         (double)out[(size_t)at], e.value, bound * e.size);
            }
        for (; at < (c + 1) * stride; at++)
            if (!is_poison(out[(size_t)at]))
                fail("%s: wrote behind the rows of column %d", what, c);
    }
    for (size_t at = (size_t)(columns * stride); at < out.size(); at++)
        if (!is_poison(out[at]))
            fail("%s: wrote behind the last column", what);
}

static void check_same(const char *what, const std::vector<float> &a, int from_a, const std::vector<float> &b,
                       int from_b, int columns, int64_t stride, int64_t rows)
{
    for (int c = 0; c < columns; c++)
        for (int64_t row = 0; row < rows; row++)
            if (!same_bits(a[(size_t)((from_a + c) * stride + row)], b[(size_t)((from_b + c) * stride + row)]))
                return fail("%s: column %d, row %d: other bits, %.9g and %.9g", what, from_b + c, (int)row,
                            (double)a[(size_t)((from_a + c) * stride + row)],
                            (double)b[(size_t)((from_b + c) * stride + row)]);
}

static void test_rows(oct_encoding encoding, int64_t width, const std::vector<int64_t> &rows,
                      const std::vector<int> &counts, const std::vector<int> &wide)
{
    std::vector<Matrix> matrices;
    std::vector<const Matrix *> pointers;
    int64_t total = 0;
    for (int64_t count : rows) {
        matrices.emplace_back(encoding, count, width, std::vector<int64_t>{0, width});
        total += count;
    }
    for (const Matrix &m : matrices)
        pointers.push_back(&m);
    oct_cuda_plan plan;
    oct_cuda_plan_rows(&plan, encoding, width);
    const int most = std::max(16, wide.empty() ? 0 : *std::max_element(wide.begin(), wide.end()));
    const std::vector<float> x = random_columns(most, width);
    const int64_t stride = total + 3;
    Run run(plan, pointers, x, width, OCT_CUDA_STORE, stride, (size_t)(stride * (most + 1)));
    char what[96];
    const char *name = oct_encoding_describe(encoding)->name;

    const std::vector<float> all = run.run(16, 0, true);
    snprintf(what, sizeof what, "%s [%d][%d], 16 columns", name, (int)total, (int)width);
    check_values(what, pointers, x, width, 16, all, stride, bound_of(plan));
    for (int columns : counts) {
        const int from = random_below(17 - columns);
        for (int prepare = 0; prepare < 2; prepare++) {
            if (!prepare && !oct_cuda_input_fits(&device, &run.p))
                continue;
            snprintf(what, sizeof what, "%s [%d][%d], %d columns, prepared %d", name, (int)total, (int)width, columns,
                     prepare);
            const std::vector<float> some = run.run(columns, from, prepare != 0);
            check_same(what, some, 0, all, from, columns, stride, total);
            for (size_t at = (size_t)(columns * stride); at < some.size(); at++)
                if (!is_poison(some[at]))
                    fail("%s: wrote behind the last column", what);
        }
    }
    for (int columns : wide) {
        snprintf(what, sizeof what, "%s [%d][%d], %d columns", name, (int)total, (int)width, columns);
        const std::vector<float> some = run.run(columns, 0, true);
        check_same(what, some, 0, all, 0, 16, stride, total);
        check_values(what, pointers, x, width, columns, some, stride, bound_of(plan));
    }
}

// --- gate and up ----------------------------------------------------------------------------------------------------

static void test_silu(oct_encoding encoding, int64_t width, int64_t rows, int columns)
{
    const Matrix gate(encoding, rows, width, {0, width}), up(encoding, rows, width, {0, width});
    oct_cuda_plan plan;
    oct_cuda_plan_rows(&plan, encoding, width);
    const std::vector<float> x = random_columns(columns, width);
    Run run(plan, {&gate, &up}, x, width, OCT_CUDA_SILU_MULTIPLY, rows, (size_t)(rows * columns));
    const std::vector<float> out = run.run(columns, 0, columns > 16 || random_below(2));
    // One after the other, as with two encodings.
    Run first(plan, {&gate}, x, width, OCT_CUDA_STORE, rows, (size_t)(rows * columns));
    Run second(plan, {&up}, x, width, OCT_CUDA_SILU_OF_OUT, rows, (size_t)(rows * columns));
    const std::vector<float> gates = first.run(columns, 0, columns > 16);
    must(cudaMemcpy(second.out.at, gates.data(), gates.size() * sizeof(float), cudaMemcpyHostToDevice), "cudaMemcpy");
    check_same("up behind gate", second.run(columns, 0, columns > 16), 0, out, 0, columns, rows, rows);
    const double bound = bound_of(plan);
    for (int c = 0; c < columns; c++)
        for (int64_t row = 0; row < rows; row++) {
            const Expected g = expect(gate, row, &x[(size_t)(c * width)], 0, width);
            const Expected u = expect(up, row, &x[(size_t)(c * width)], 0, width);
            const double silu = g.value / (1 + std::exp(-g.value)), found = out[(size_t)(c * rows + row)];
            // The derivative of silu is at most 1.1; exp, the division and the products add 4 roundings.
            const double eg = 1.1 * bound * g.size, eu = bound * u.size;
            const double allowed = eg * std::fabs(u.value) + std::fabs(silu) * eu + eg * eu +
                                   8 * 0x1p-24 * std::fabs(silu * u.value) + 1e-30;
            if (!(std::fabs(found - silu * u.value) <= allowed))
                fail("%s: silu(gate) · up of row %d, column %d is %g, expected %g",
                     oct_encoding_describe(encoding)->name, (int)row, c, found, silu * u.value);
        }
}

// --- along K: granules, ranks, the tree -----------------------------------------------------------------------------

// What `ranks` ranks give: the nodes of all of them, in order, added by the finish: [columns][rows].
static std::vector<float> reduce(const Matrix &m, const oct_partition &partition, int ranks,
                                 const std::vector<float> &x, int columns)
{
    std::vector<std::vector<float>> nodes;
    for (int rank = 0; rank < ranks; rank++) {
        const Part own(m, partition, ranks, rank, x, columns);
        const oct_cuda_plan &plan = own.plan;
        const size_t size = (size_t)(plan.nodes * columns) * (size_t)m.rows;
        Run run(plan, {&own.matrix}, own.x, own.width, OCT_CUDA_NODES, m.rows, size + 1);
        const std::vector<float> out = run.run(columns, 0, columns > 16 || random_below(2));
        if (!is_poison(out[size]))
            fail("rank %d of %d wrote behind its nodes", rank, ranks);
        for (int node = 0; node < plan.nodes; node++)
            nodes.emplace_back(&out[(size_t)(node * columns) * (size_t)m.rows],
                               &out[(size_t)(node * columns) * (size_t)m.rows] + columns * m.rows);
    }
    oct_tree_finish finish;
    oct_tree_schedule_finish(&finish, partition.granules, ranks);
    std::vector<std::vector<float>> stack;
    for (int i = 0; i < finish.nodes; i++) {
        stack.push_back(nodes[(size_t)i]);
        for (int merge = 0; merge < finish.merges[i]; merge++) {
            const std::vector<float> upper = stack.back();
            stack.pop_back();
            for (size_t k = 0; k < upper.size(); k++)
                stack.back()[k] = stack.back()[k] + upper[k];
        }
    }
    return stack[0];
}

static void test_granules(oct_encoding encoding, int64_t rows, int64_t width, int granules, int columns)
{
    const oct_partition partition = oct_partition_make((int32_t)((width + 31) / 32), 32, granules);
    std::vector<int64_t> borders;
    for (int g = 0; g <= partition.granules; g++)
        borders.push_back(std::min((int64_t)oct_granule_unit(&partition, g) * 32, width));
    const Matrix m(encoding, rows, width, borders);
    const std::vector<float> x = random_columns(columns, width);
    oct_cuda_plan plan;
    oct_cuda_plan_granules(&plan, encoding, rows, width, &partition, {0, partition.granules});
    const std::vector<float> root = reduce(m, partition, 1, x, columns);
    const char *name = oct_encoding_describe(encoding)->name;
    for (int c = 0; c < columns; c++)
        for (int64_t row = 0; row < rows; row++) {
            const Expected e = expect(m, row, &x[(size_t)(c * width)], 0, width);
            const double found = root[(size_t)(c * rows + row)];
            if (!(std::fabs(found - e.value) <= bound_of(plan) * e.size + 1e-30))
                fail("%s along K: row %d, column %d is %g, expected %g", name, (int)row, c, found, e.value);
        }
    for (int ranks : {2, 3, 8}) {
        const std::vector<float> shared = reduce(m, partition, ranks, x, columns);
        char what[64];
        snprintf(what, sizeof what, "%s along K, %d ranks", name, ranks);
        check_same(what, shared, 0, root, 0, columns, rows, rows);
    }
    // One rank adds its node to the residual itself.
    Run run(plan, {&m}, x, width, OCT_CUDA_ADD, rows, (size_t)(columns * rows));
    std::vector<float> residual((size_t)(columns * rows)), sum(residual);
    for (size_t i = 0; i < residual.size(); i++) {
        residual[i] = random_number();
        sum[i] = residual[i] + root[i];
    }
    must(cudaMemcpy(run.out.at, residual.data(), residual.size() * 4, cudaMemcpyHostToDevice), "cudaMemcpy");
    check_same("added to the residual", run.run(columns, 0, columns > 16), 0, sum, 0, columns, rows, rows);
}

// --- the norm, columns that are taken from elsewhere -----------------------------------------------------------------

static void test_norm(int64_t width, int columns)
{
    const int64_t rows = 32;
    const float epsilon = 1e-5f;
    const Matrix m(OCT_BF16, rows, width, {0, width});
    oct_cuda_plan plan;
    oct_cuda_plan_rows(&plan, OCT_BF16, width);
    std::vector<float> x((size_t)(width * (columns + 2))), norm((size_t)width);
    for (float &value : x)
        value = random_number() * 3;
    for (float &value : norm)
        value = 1 + random_number() / 2;
    std::vector<int32_t> column_of;
    for (int c = 0; c < columns; c++)
        column_of.push_back(c == 1 ? -1 : columns + 1 - c);
    Run run(plan, {&m}, x, width, OCT_CUDA_STORE, rows, (size_t)(rows * columns));
    const Array<float> weights(norm);
    const Array<int32_t> places(column_of);
    run.p.input.norm = weights.at;
    run.p.input.epsilon = epsilon;
    run.p.input.column_of = places.at;
    const std::vector<float> prepared = run.run(columns, 0, true);
    if (oct_cuda_input_fits(&device, &run.p))
        check_same("the norm in the projection", run.run(columns, 0, false), 0, prepared, 0, columns, rows, rows);
    for (int c = 0; c < columns; c++) {
        const float *row = column_of[(size_t)c] < 0 ? nullptr : &x[(size_t)(column_of[(size_t)c] * width)];
        double squares = 0;
        for (int64_t k = 0; row != nullptr && k < width; k++)
            squares += (double)row[k] * (double)row[k];
        const double r = 1 / std::sqrt(squares / (double)width + (double)epsilon);
        for (int64_t i = 0; i < rows; i++) {
            double sum = 0, size = 0;
            for (int64_t k = 0; row != nullptr && k < width; k++) {
                const double value = (double)row[k] * r * (double)norm[(size_t)k];
                sum += m.weights[(size_t)(i * width + k)].value() * value;
                size += std::fabs(m.weights[(size_t)(i * width + k)].value() * value);
            }
            // Inputs are rounded to 8 significant bits, 2^-8 each at most; the norm's own roundings are a few u, in
            // 0.01 of that.
            const double allowed = (1.01 * 0x1p-8 + bound_of(plan)) * size + 1e-30,
                         found = prepared[(size_t)(c * rows + i)];
            if (!(std::fabs(found - sum) <= allowed))
                fail("norm of %d: row %d of column %d is %g, expected %g", (int)width, (int)i, c, found, sum);
        }
    }
}

// --- schedules, errors ---------------------------------------------------------------------------------------------

static void test_schedules(oct_encoding encoding)
{
    const int64_t width = 1312, rows = 70;
    const Matrix gate(encoding, rows, width, {0, width}), up(encoding, rows, width, {0, width});
    oct_cuda_plan plan;
    oct_cuda_plan_rows(&plan, encoding, width);
    const std::vector<float> x = random_columns(20, width);
    Run run(plan, {&gate, &up}, x, width, OCT_CUDA_SILU_MULTIPLY, rows, (size_t)(rows * 20));
    for (int columns : {3, 20}) {
        const std::vector<float> plain = run.run(columns, 0, columns > 16);
        for (int seed = 1; seed < 4; seed++) {
            set_schedule(seed == 1 ? "lifo" : "random", "lazy");
            check_same("another schedule", run.run(columns, 0, columns > 16), 0, plain, 0, columns, rows, rows);
        }
        restore_schedule();
    }
    // Another grid: as if the device had one multiprocessor, and many.
    const oct_cuda_device own = device;
    const std::vector<float> plain = run.run(2, 0, false);
    for (int multiprocessors : {1, 3, 200}) {
        device.multiprocessors = multiprocessors;
        check_same("another grid", run.run(2, 0, false), 0, plain, 0, 2, rows, rows);
    }
    // So little shared memory that the ring is short, then that only the wide variant has room.
    device = own;
    for (size_t shared : {(size_t)64 << 10, (size_t)48 << 10, (size_t)36 << 10}) {
        device.shared_bytes = shared;
        check_same("less shared memory", run.run(2, 0, true), 0, plain, 0, 2, rows, rows);
    }
    device = own;
}

static void test_refusals(void)
{
    const int64_t width = 64;
    const Matrix m(OCT_Q4, 16, width, {0, width});
    oct_cuda_plan plan;
    oct_cuda_plan_rows(&plan, OCT_Q4, width);
    Run run(plan, {&m}, random_columns(1, width), width, OCT_CUDA_STORE, 16, 16);
    run.p.input.columns = 17; // not prepared, and not narrow
    if (oct_cuda_project(&device, &run.p, nullptr) != OCT_ERR_INTERNAL)
        fail("a wide input that is not prepared was taken");
    run.p.input.columns = 1;
    run.p.epilogue = OCT_CUDA_SILU_MULTIPLY;
    if (oct_cuda_project(&device, &run.p, nullptr) != OCT_ERR_INTERNAL)
        fail("gate without up was taken");
    run.p.epilogue = OCT_CUDA_STORE;
    // 1 column of 64 and its norm in, 16 rows out, 2 units of 16 rows of q4 (288 bytes each).
    if (oct_cuda_project_bytes(&run.p) != 64 * 4 + 2 * 288 + 16 * 4)
        fail("%llu bytes moved, expected %d", (unsigned long long)oct_cuda_project_bytes(&run.p),
             64 * 4 + 2 * 288 + 64);
    oct_failure_clear();
}

// What main() samples: for an encoding every number of columns with awkward shapes.
static void test_all(oct_encoding encoding, const std::vector<int> &every)
{
    for (int64_t width : {32, 96, 250, 1000, 4384})
        test_rows(encoding, width, {17, 1}, every, {17, 64, 65, 150});
    for (int columns : every) {
        test_granules(encoding, 32, 672, 5, columns);
        test_granules(encoding, 17, 1000, 64, columns);
        test_granules(encoding, 48, 96, 64, columns);
        test_silu(encoding, 320, 24, columns);
        test_silu(encoding, 1000, 17, columns);
    }
    for (int columns : {20, 40, 65})
        test_silu(encoding, 96, 33, columns);
    test_granules(encoding, 16, 2048, 64, 65);
    test_schedules(encoding);
}

int main(void)
{
    begin_tests();
    must(oct_cuda_device_read(&device), "device");
    must(oct_cuda_projection_load(&device), "load");
    std::vector<int> every;
    for (int columns = 1; columns <= 16; columns++)
        every.push_back(columns);
    for (int e = 0; is_full() && e < OCT_ENCODING_COUNT; e++)
        test_all((oct_encoding)e, every);
    for (int e = 0; e < OCT_ENCODING_COUNT; e++) {
        const oct_encoding encoding = (oct_encoding)e;
        test_rows(encoding, 608, {40, 16, 21}, e == OCT_Q4 ? every : std::vector<int>{1, 5, 9}, {17});
        test_granules(encoding, 32, 672, 5, 1 + random_below(16));
        test_silu(encoding, 320, 24, 1 + random_below(16));
    }
    test_rows(OCT_Q4_K, 4384, {48}, {2}, {});               // two blocks a segment
    test_rows(OCT_Q8, 96, {17}, {1, 8, 16}, {64, 65, 150}); // less than a block; several passes of 64 columns
    test_rows(OCT_BF16, 250, {33}, {1, 3}, {70});           // K is no multiple of 32
    test_granules(OCT_Q2, 48, 1000, 64, 3);                 // granules of one unit, the last one cut
    test_granules(OCT_Q6_K, 32, 96, 64, 2);                 // fewer granules than ranks
    test_granules(OCT_BF16, 32, 2048, 64, 20);
    test_silu(OCT_Q4, 320, 40, 40);
    for (int64_t width : {64, 96, 1000})
        test_norm(width, 3);
    test_norm(2112, 12);
    test_schedules(OCT_Q5_K);
    test_refusals();
    return end_tests("projection");
}
