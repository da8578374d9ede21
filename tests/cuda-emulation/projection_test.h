// What the tests of projections share: matrices with their exact weights, a rank's part of one that is split along K,
// and projections of host data that are run again and again.
#ifndef OCT_TESTS_CUDA_EMULATION_PROJECTION_TEST_H
#define OCT_TESTS_CUDA_EMULATION_PROJECTION_TEST_H

#include "kernel_test.h"

#include <algorithm>

#include "kernels/cuda/layout.h"
#include "kernels/cuda/projection.h"

static oct_cuda_device device;

enum { MAX_COLUMNS = 160 };

// A matrix of the shard: its weights on the device and as numbers. Stored as the checkpoint does: by rows one strip a
// tile, else granule by granule.
struct Matrix {
    oct_encoding encoding;
    int64_t rows, columns;
    std::vector<Weight> weights; // [rows padded to 16][columns]
    std::vector<uint8_t> bytes;  // on the device

    Matrix(oct_encoding of, int64_t row_count, int64_t column_count, const std::vector<int64_t> &borders)
        : encoding(of), rows(row_count), columns(column_count)
    {
        const int64_t tiles = oct_tile_count(rows);
        weights.resize((size_t)(tiles * 16 * columns));
        for (size_t g = 0; g + 1 < borders.size(); g++)
            for (int64_t tile = 0; tile < tiles; tile++)
                add_strip(tile, borders[g], borders[g + 1]);
    }

    void add_strip(int64_t tile, int64_t first, int64_t last)
    {
        const std::vector<uint8_t> strip = random_strip(encoding, first, last);
        const std::vector<Weight> part = weights_of_strip(encoding, strip.data(), first, last);
        for (int64_t row = 0; row < 16; row++)
            std::copy_n(&part[(size_t)(row * (last - first))], last - first,
                        &weights[(size_t)((tile * 16 + row) * columns + first)]);
        const size_t at = bytes.size();
        bytes.resize(at + oct_strip_bytes(oct_cuda_encoding(encoding), first, last));
        oct_cuda_layout_strip(encoding, first, last, strip.data(), &bytes[at]);
    }
};

// Columns of inputs that are bf16 numbers, so that rounding them changes nothing.
static std::vector<float> random_columns(int columns, int64_t width)
{
    std::vector<float> x((size_t)(columns * width));
    for (float &value : x)
        value = as_bf16(random_number() * (random_below(8) == 0 ? 30.0f : 1.0f));
    return x;
}

// A rank's granules of a matrix, which are stored one after another, and its part of the input.
struct Part {
    Matrix matrix;
    oct_cuda_plan plan;
    std::vector<float> x; // [columns][width]
    int64_t width;

    Part(const Matrix &m, const oct_partition &partition, int ranks, int rank, const std::vector<float> &all,
         int columns)
        : matrix(m)
    {
        const oct_run own = oct_partition_cut(partition.granules, ranks, rank);
        const int64_t begin = (int64_t)oct_granule_unit(&partition, own.begin) * partition.unit_size;
        const int64_t limit = (int64_t)oct_granule_unit(&partition, own.end) * partition.unit_size;
        width = std::max<int64_t>(std::min(limit, m.columns) - begin, 0);
        oct_cuda_plan_granules(&plan, m.encoding, m.rows, m.columns, &partition, own);
        for (int c = 0; c < columns; c++)
            x.insert(x.end(), &all[(size_t)(c * m.columns + begin)], &all[(size_t)(c * m.columns + begin)] + width);
        size_t skip = 0, bytes = 0;
        for (int g = 0; g < own.end; g++) {
            const int64_t first = (int64_t)oct_granule_unit(&partition, g) * partition.unit_size;
            const int64_t last =
                std::min((int64_t)oct_granule_unit(&partition, g + 1) * partition.unit_size, m.columns);
            const size_t of_granule = (size_t)oct_tile_count(m.rows) * oct_strip_bytes(plan.encoding, first, last);
            (g < own.begin ? skip : bytes) += of_granule;
        }
        matrix.bytes.assign(m.bytes.begin() + (long)skip, m.bytes.begin() + (long)(skip + bytes));
    }
};

// A projection of host data, run again and again.
struct Run {
    oct_cuda_projection p = {};
    Array<float> x;
    std::vector<Array<uint8_t> *> weights;
    Array<float> out;
    Array<uint8_t> prepared;

    Run(const oct_cuda_plan &plan, const std::vector<const Matrix *> &matrices, const std::vector<float> &columns,
        int64_t width, oct_cuda_epilogue epilogue, int64_t out_stride, size_t out_size)
        : x(columns), out(out_size), prepared(oct_cuda_prepared_bytes((int32_t)width, MAX_COLUMNS))
    {
        p.plan = plan;
        p.input.x = x.at;
        p.input.stride = width;
        p.input.width = (int32_t)width;
        p.epilogue = epilogue;
        p.out_stride = out_stride;
        int64_t offset = 0;
        for (const Matrix *m : matrices) {
            weights.push_back(new Array<uint8_t>(m->bytes));
            p.matrices[p.matrix_count++] = {weights.back()->at, m->rows, out.at + offset};
            offset += epilogue == OCT_CUDA_STORE ? m->rows : 0;
        }
    }

    ~Run()
    {
        for (Array<uint8_t> *w : weights)
            delete w;
    }

    // The first `columns` columns, from column `from` of x on; prepared also where blocks have no room for them.
    std::vector<float> run(int columns, int from, bool prepare)
    {
        p.input.x = x.at + from * p.input.stride;
        p.input.columns = columns;
        prepare = prepare || !oct_cuda_input_fits(&device, &p);
        p.input.prepared = prepare ? prepared.at : nullptr;
        if (p.epilogue != OCT_CUDA_ADD && p.epilogue != OCT_CUDA_SILU_OF_OUT) // these begin with what is there
            out.poison();
        prepared.poison();
        if (prepare)
            must(oct_cuda_prepare(&p.input, nullptr), "prepare");
        must(oct_cuda_project(&device, &p, nullptr), "project");
        return out.values();
    }
};

#endif
