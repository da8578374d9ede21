// The runs of the examples: inputs, launch, reference. The error bounds are those of fp32 sums of n terms,
// each rounded n times at worst: n 2^-24, against sums whose greatest value is of the order of sqrt(n).
#include "test_support.h"

static Outcome run_scale_rows(Bug bug, int shape)
{
    int rows = 1 + 2 * shape, columns = 100 + 160 * shape;
    std::vector<float> x = random_floats((size_t)(rows * columns));
    Array<float> device_x(x), out(x.size());
    Stream stream;
    CUDA(scale_rows(out.at, device_x.at, rows, columns, bug, stream.handle));
    stream.wait();
    Outcome outcome{out.values(), {}, 1e-5};
    for (int row = 0; row < rows; row++) {
        double squares = 0;
        for (int i = 0; i < columns; i++)
            squares += (double)x[(size_t)(row * columns + i)] * x[(size_t)(row * columns + i)];
        for (int i = 0; i < columns; i++)
            outcome.expected.push_back(x[(size_t)(row * columns + i)] / sqrt(squares / columns));
    }
    return outcome;
}

static std::vector<double> product(const std::vector<float> &w, const std::vector<float> &x)
{
    std::vector<double> y(w.size() / x.size());
    for (size_t i = 0; i < w.size(); i++)
        y[i / x.size()] += (double)w[i] * x[i % x.size()];
    return y;
}

static Outcome run_matrix_vector_by(decltype(matrix_vector) *kernel, Bug bug, int shape)
{
    int rows = 9 + 8 * shape, columns = 100 + 260 * shape;
    std::vector<float> w = random_floats((size_t)(rows * columns)), x = random_floats((size_t)columns);
    Array<float> device_w(w), device_x(x), y((size_t)rows);
    Stream stream;
    CUDA(kernel(y.at, device_w.at, device_x.at, rows, columns, bug, stream.handle));
    stream.wait();
    return {y.values(), product(w, x), 1e-5};
}

static Outcome run_matrix_vector(Bug bug, int shape)
{
    return run_matrix_vector_by(matrix_vector, bug, shape);
}

static Outcome run_matrix_vector_ring(Bug bug, int shape)
{
    return run_matrix_vector_by(matrix_vector_ring, bug, shape);
}

static Outcome run_two_phases_by(bool groups, Bug bug, int shape)
{
    int n = 300 + 77 * shape;
    std::vector<float> x = random_floats((size_t)n);
    Array<float> device_x(x), middle(x.size()), out(x.size());
    Array<uint32_t> counter(std::vector<uint32_t>{0});
    Stream stream;
    CUDA(two_phases(out.at, middle.at, device_x.at, n, 3, counter.at, groups, bug, stream.handle));
    stream.wait();
    Outcome outcome{out.values(), {}, 1e-6};
    for (size_t i = 0; i < x.size(); i++) {
        double mirrored = x[x.size() - 1 - i];
        outcome.expected.push_back((double)x[i] * x[i] + mirrored * mirrored);
    }
    return outcome;
}

static Outcome run_two_phases(Bug bug, int shape)
{
    return run_two_phases_by(false, bug, shape);
}

static Outcome run_two_phases_groups(Bug bug, int shape)
{
    return run_two_phases_by(true, bug, shape);
}

static Outcome run_sum_by_last_block(Bug bug, int shape)
{
    int n = 1000 + 333 * shape, blocks = 5;
    std::vector<float> x = random_floats((size_t)n);
    Array<float> device_x(x), partial((size_t)blocks), out(1);
    Array<uint32_t> counter(std::vector<uint32_t>{0});
    Stream stream;
    double sum = 0;
    for (float value : x)
        sum += value;
    for (int repeat = 0; repeat < 2; repeat++) // the counter is ready again
        CUDA(sum_by_last_block(out.at, device_x.at, n, blocks, partial.at, counter.at, bug, stream.handle));
    stream.wait();
    return {out.values(), {sum}, 1e-4};
}

static Outcome run_matrix_product(Bug bug, int shape)
{
    int m = 45 + 20 * shape, n = 3 + 2 * shape, k = 200 + 96 * shape;
    std::vector<uint16_t> w = random_bf16((size_t)(m * k)), x = random_bf16((size_t)(n * k));
    Array<uint16_t> device_w(w), device_x(x);
    Array<float> c((size_t)(m * n));
    Stream stream;
    CUDA(matrix_product(c.at, device_w.at, device_x.at, m, n, k, bug, stream.handle));
    stream.wait();
    Outcome outcome{c.values(), {}, 1e-5};
    for (int row = 0; row < m; row++)
        for (int column = 0; column < n; column++) {
            double sum = 0;
            for (int i = 0; i < k; i++)
                sum += (double)from_bf16(w[(size_t)(row * k + i)]) * from_bf16(x[(size_t)(column * k + i)]);
            outcome.expected.push_back(sum);
        }
    return outcome;
}

static Outcome run_chain(Bug bug, int shape)
{
    int n = 100 + 68 * shape, steps = 1 + shape;
    std::vector<float> w = random_floats((size_t)n), x = random_floats((size_t)n);
    Array<float> device_w(w), device_x(x), y(std::vector<float>((size_t)n)), sum((size_t)n);
    Stream stream;
    CUDA(chain(y.at, sum.at, device_w.at, device_x.at, n, steps, bug, stream.handle));
    stream.wait();
    std::vector<double> before((size_t)n), after((size_t)n);
    for (int step = 0; step < steps; step++, before = after)
        for (size_t i = 0; i < before.size(); i++)
            after[i] = w[i] * ((double)x[i] + before[before.size() - 1 - i]);
    return {y.values(), after, 1e-6};
}

const Example examples[EXAMPLES] = {
    {"scale_rows", run_scale_rows},
    {"matrix_vector", run_matrix_vector},
    {"matrix_vector_ring", run_matrix_vector_ring},
    {"two_phases", run_two_phases},
    {"two_phases_groups", run_two_phases_groups},
    {"sum_by_last_block", run_sum_by_last_block},
    {"matrix_product", run_matrix_product},
    {"chain", run_chain},
};
