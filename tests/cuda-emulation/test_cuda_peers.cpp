// Reductions over ranks inside kernels, on one device that plays all ranks by turns: what the kernels do with other
// ranks' memory, not how they wait (test_peer_exchange does that). The flags of other ranks are set beforehand; the
// ranks run one after another, twice: in the first round they bring their nodes, in the second all of them are there.
// The residual and the sums of squares have the bits of one rank that adds its nodes by itself.
#include "projection_test.h"

#include "kernels/cuda/peers.h"

namespace
{
// The memory of all ranks.
struct Ranks {
    oct_cuda_peers peers = {};
    Array<uint32_t> step, abort;
    std::vector<Array<uint8_t> *> memory;

    Ranks(int ranks, int nodes, int columns, int hidden)
        : step(std::vector<uint32_t>{7}), abort(std::vector<uint32_t>{OCT_DEVICE_WAITS})
    {
        peers.ranks = ranks;
        peers.hidden = hidden;
        peers.exchanges = 3;
        peers.step = step.at;
        peers.abort = abort.at;
        peers.layout = oct_cuda_peer_layout_make(ranks, nodes, columns, hidden);
        for (int rank = 0; rank < ranks; rank++) {
            memory.push_back(new Array<uint8_t>(peers.layout.bytes));
            peers.memory[rank] = memory.back()->at;
        }
    }

    ~Ranks()
    {
        for (Array<uint8_t> *m : memory)
            delete m;
    }

    uint32_t epoch(uint32_t number) const
    {
        return 7 * peers.exchanges + number + 1;
    }

    // Everything NaN, no rank stopped.
    void clear(void)
    {
        for (int rank = 0; rank < peers.ranks; rank++) {
            memory[(size_t)rank]->poison();
            set_flags(rank, 0);
        }
    }

    // In the memory of a rank: the flags of all others set, its own not.
    void set_flags(int rank, uint32_t number)
    {
        std::vector<uint32_t> words(peers.layout.results / sizeof(uint32_t), epoch(number));
        const size_t arrivals = peers.layout.arrivals / sizeof(uint32_t);
        const size_t delivered = peers.layout.delivered / sizeof(uint32_t);
        const size_t ranks = (size_t)peers.ranks, groups = oct_cuda_squares_count(peers.hidden);
        words[0] = 0;
        for (size_t i = arrivals; i < words.size(); i++)
            if ((i < delivered ? (i - arrivals) % ranks : (i - delivered) % groups % ranks) == (size_t)rank)
                words[i] = 0;
        memory[(size_t)rank]->put(0, reinterpret_cast<const uint8_t *>(words.data()),
                                  words.size() * sizeof(uint32_t));
    }
};

std::vector<float> residual_of(int columns, int64_t hidden)
{
    std::vector<float> residual((size_t)(columns * hidden));
    for (float &value : residual)
        value = random_number();
    return residual;
}

// The norm's sum of squares of the rows of a group (docs/numbers.md).
float squares_of(const float *group, int rows)
{
    float sums[16];
    for (int lane = 0; lane < 16; lane++) {
        sums[lane] = 0;
        for (int row = lane; row < rows; row += 16)
            sums[lane] = std::fmaf(group[row], group[row], sums[lane]);
    }
    for (int apart = 8; apart > 0; apart /= 2)
        for (int lane = 0; lane < apart; lane++)
            sums[lane] = sums[lane] + sums[lane + apart];
    return sums[0];
}

void check_squares(const std::vector<float> &squares, const std::vector<float> &residual, int columns, int hidden)
{
    const int groups = (hidden + OCT_CUDA_GROUP_ROWS - 1) / OCT_CUDA_GROUP_ROWS;
    for (int i = 0; i < columns * groups; i++) {
        const int first = i % groups * OCT_CUDA_GROUP_ROWS;
        const float expected = squares_of(&residual[(size_t)(i / groups * hidden + first)],
                                          std::min<int>(OCT_CUDA_GROUP_ROWS, hidden - first));
        if (!same_bits(squares[(size_t)i], expected))
            return fail("sum of squares %d: %.9g, expected %.9g", i, squares[(size_t)i], expected);
    }
}

// The residual after one rank has added all granules by itself.
std::vector<float> add_alone(const Matrix &m, const oct_partition &partition, const std::vector<float> &x, int columns,
                             const std::vector<float> &before)
{
    const Part all(m, partition, 1, 0, x, columns);
    Run run(all.plan, {&all.matrix}, all.x, all.width, OCT_CUDA_ADD, m.rows, before.size());
    run.out.put(0, before.data(), before.size());
    return run.run(columns, 0, columns > 16);
}

struct Shape {
    oct_encoding encoding;
    int rows, width, granules, ranks, columns;
    bool two_shots;
};

void test_projection(const Shape &s)
{
    const oct_partition partition = oct_partition_make((s.width + 31) / 32, 32, s.granules);
    std::vector<int64_t> borders;
    for (int g = 0; g <= partition.granules; g++)
        borders.push_back(std::min((int64_t)oct_granule_unit(&partition, g) * 32, (int64_t)s.width));
    const Matrix m(s.encoding, s.rows, s.width, borders);
    const std::vector<float> x = random_columns(s.columns, s.width), before = residual_of(s.columns, s.rows);
    const std::vector<float> expected = add_alone(m, partition, x, s.columns, before);
    oct_tree_finish tree;
    oct_tree_schedule_finish(&tree, partition.granules, s.ranks);
    Ranks ranks(s.ranks, tree.nodes, s.columns, s.rows);
    const uint32_t number = (uint32_t)random_below(3);
    const int last = random_below(s.ranks); // the one whose results are looked at
    ranks.clear();
    Array<float> residual(before.size()), squares((size_t)s.columns * oct_cuda_squares_count(s.rows));
    for (int turn = 0; turn < 2 * s.ranks; turn++) {
        const int rank = (last + 1 + turn) % s.ranks;
        const Part own(m, partition, s.ranks, rank, x, s.columns);
        ranks.peers.rank = rank;
        ranks.set_flags(rank, number);
        Run run(own.plan, {&own.matrix}, own.x, own.width, OCT_CUDA_REDUCE, m.rows, 1);
        residual.put(0, before.data(), before.size());
        must(oct_cuda_plan_reduction(&run.p.reduction, &ranks.peers, &tree, s.columns, number,
                                     s.two_shots ? 0 : SIZE_MAX, residual.at, squares.at),
             "planning a reduction");
        set_schedule("random", "eager");
        run.run(s.columns, 0, s.columns > 16 || random_below(2) != 0);
    }
    const std::vector<float> found = residual.values();
    for (size_t i = 0; i < found.size(); i++)
        if (!same_bits(found[i], expected[i])) {
            fail("%s [%d][%d], %d granules, %d ranks, %d columns, %d shots: element %zu is %.9g, expected %.9g",
                 oct_encoding_describe(s.encoding)->name, s.rows, s.width, partition.granules, s.ranks, s.columns,
                 s.two_shots ? 2 : 1, i, found[i], expected[i]);
            break;
        }
    check_squares(squares.values(), found, s.columns, s.rows);
}

// What a flag is for, and what a rank that has given up leaves alone.
void test_stopped(void)
{
    enum { HIDDEN = 100, COLUMNS = 2, RANKS = 3 };
    oct_tree_finish tree;
    oct_tree_schedule_finish(&tree, RANKS, RANKS);
    Ranks ranks(RANKS, tree.nodes, COLUMNS, HIDDEN);
    ranks.clear();
    const uint32_t stopped = 1;
    ranks.memory[1]->put(0, reinterpret_cast<const uint8_t *>(&stopped), sizeof stopped);
    ranks.peers.rank = 1;
    const std::vector<float> before = residual_of(COLUMNS, HIDDEN);
    const Array<float> residual(before), nodes(before);
    std::vector<std::vector<uint8_t>> memory;
    for (Array<uint8_t> *m : ranks.memory)
        memory.push_back(m->values());
    oct_cuda_reduction r;
    must(oct_cuda_plan_reduction(&r, &ranks.peers, &tree, COLUMNS, 1, SIZE_MAX, residual.at, nullptr), "planning");
    r.own = nodes.at;
    must(oct_cuda_reduce(&device, &r, nullptr), "reduction");
    if (memcmp(residual.values().data(), before.data(), before.size() * sizeof(float)) != 0)
        fail("a rank that has given up has added something");
    for (int rank = 0; rank < RANKS; rank++)
        if (ranks.memory[(size_t)rank]->values() != memory[(size_t)rank])
            fail("a rank that has given up has written to rank %d", rank);
}

// Sums of squares from a reduction instead of the norm's own.
void test_taken_squares(int32_t width, int columns)
{
    const size_t groups = oct_cuda_squares_count(width);
    const std::vector<float> x = residual_of(columns, width), weights = residual_of(1, width);
    std::vector<float> squares(groups * (size_t)columns);
    for (size_t i = 0; i < squares.size(); i++) {
        const size_t first = i % groups * OCT_CUDA_GROUP_ROWS;
        squares[i] = squares_of(&x[i / groups * (size_t)width + first],
                                std::min<int>(OCT_CUDA_GROUP_ROWS, width - (int)first));
    }
    std::vector<int32_t> column_of(x.size() / (size_t)width);
    for (size_t c = 0; c < column_of.size(); c++)
        column_of[c] = c == 1 ? -1 : columns - 1 - (int)c;
    const Array<float> device_x(x), norm(weights), taken(squares);
    const Array<int32_t> list(column_of);
    Array<uint8_t> own(oct_cuda_prepared_bytes(width, columns)), other(own.count);
    oct_cuda_input input = {};
    input.x = device_x.at;
    input.stride = input.width = width;
    input.columns = columns;
    input.column_of = random_below(2) != 0 ? list.at : nullptr;
    input.norm = norm.at;
    input.epsilon = 1e-5f;
    input.prepared = own.at;
    must(oct_cuda_prepare(&input, nullptr), "prepare");
    input.squares = taken.at;
    input.prepared = other.at;
    must(oct_cuda_prepare(&input, nullptr), "prepare");
    if (own.values() != other.values())
        fail("%d columns of %d: other bits with sums of squares that were there", columns, width);
}
} // namespace

int main()
{
    begin_tests();
    must(oct_cuda_device_read(&device), "the device");
    must(oct_cuda_projection_load(&device), "loading");
    const int columns[] = {1, 3, 8, 11, 16, 40};
    int turn = 0;
    for (oct_encoding encoding : {OCT_Q4, OCT_BF16, OCT_Q2_K, OCT_Q8})
        for (int ranks : {1, 2, 3, 8})
            for (bool two_shots : {false, true}) {
                const int c = columns[turn % 6], granules = turn % 3 == 0 ? 14 : turn % 3 == 1 ? 8 : 5;
                turn++;
                test_projection({encoding, turn % 2 != 0 ? 150 : 64, 448, granules, ranks, c, two_shots || c > 16});
            }
    test_stopped();
    for (int32_t width : {64, 576, 1100})
        for (int c : {1, 3, 9})
            test_taken_squares(width, c);
    return end_tests("peers");
}
