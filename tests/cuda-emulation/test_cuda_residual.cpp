// The residual on the device: embedding rows of every encoding, the choice of the owner's row, the end of a reduction
// for many trees and numbers of ranks (the bits of the whole tree).
#include "kernel_test.h"

#include "kernels/cuda/embedding.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/reduction.h"

namespace
{
// A descriptor on the device that holds tokens alone.
struct token_step {
    Array<int32_t> tokens;
    oct_cuda_step step;

    explicit token_step(const std::vector<int32_t> &list) : tokens(list), step()
    {
        step.columns = (int32_t)list.size();
        step.tokens = tokens.at;
    }
};

// The rank holds tokens [first tile · 16, …); of its table each row has to be what the host decodes.
void check_embedding(oct_encoding encoding, int32_t hidden)
{
    enum { TILES = 3, FIRST = 2 };
    const oct_encoding there = oct_cuda_encoding(encoding);
    const size_t bytes = oct_strip_bytes(there, 0, hidden);
    std::vector<uint8_t> weights(TILES * bytes);
    std::vector<float> rows((size_t)(TILES * 16 * hidden));
    for (int tile = 0; tile < TILES; tile++) {
        const std::vector<uint8_t> strip = random_strip(encoding, 0, hidden);
        oct_cuda_layout_strip(encoding, 0, hidden, strip.data(), &weights[(size_t)tile * bytes]);
        for (int row = 0; row < 16; row++)
            oct_strip_decode_row(encoding, strip.data(), 0, hidden, row, &rows[(size_t)((tile * 16 + row) * hidden)]);
    }
    std::vector<int32_t> tokens = {FIRST * 16 - 1, -1, (FIRST + TILES) * 16};
    for (int i = 0; i < 16 * TILES; i += 1 + random_below(5))
        tokens.push_back(FIRST * 16 + i);
    tokens.push_back((FIRST + TILES) * 16 - 1);
    const token_step step(tokens);
    const Array<uint8_t> device_weights(weights);
    Array<float> out(tokens.size() * (size_t)hidden);
    const oct_cuda_embedding e = {step.step, device_weights.at, encoding, {FIRST, FIRST + TILES}, hidden, out.at};
    shuffle();
    must(oct_cuda_embed(&e, nullptr), "embedding");
    const std::vector<float> found = out.values();
    for (size_t c = 0; c < tokens.size(); c++)
        for (int32_t i = 0; i < hidden; i++) {
            const float value = found[c * (size_t)hidden + (size_t)i];
            const int32_t row = tokens[c] - FIRST * 16;
            if (c == 0 || c == 2) {
                if (!is_poison(value))
                    fail("%s: the row of another rank's token was written", oct_encoding_describe(encoding)->name);
                continue;
            }
            float expected = c == 1 ? 0.0f : rows[(size_t)(row * hidden + i)];
            if (oct_encoding_describe(encoding)->float_bytes != 0)
                expected = as_bf16(expected);
            if (!same_bits(value, expected)) {
                fail("%s, %d wide, token %d, element %d: %.9g, expected %.9g", oct_encoding_describe(encoding)->name,
                     hidden, tokens[c], i, value, expected);
                return;
            }
        }
}

void test_embedding(void)
{
    for (int encoding = 0; encoding < OCT_ENCODING_COUNT; encoding++)
        for (int32_t hidden : {32, 256, 576})
            check_embedding((oct_encoding)encoding, hidden);
}

void test_choice_of_rows(void)
{
    enum { HIDDEN = 1060, RANKS = 3 };
    oct_step_program program = {};
    program.ranks = RANKS;
    program.model.vocabulary = 1000;
    const std::vector<int32_t> tokens = {0, 999, -1, 335, 336, 337, 500, 672, 671, 650};
    const token_step step(tokens);
    oct_cuda_row_choice choice = {};
    choice.step = step.step;
    choice.hidden = HIDDEN;
    oct_cuda_set_token_owners(&choice, &program);
    std::vector<float> rows[RANKS];
    std::vector<Array<float> *> device;
    for (int rank = 0; rank < RANKS; rank++) {
        for (size_t i = 0; i < tokens.size() * HIDDEN; i++)
            rows[rank].push_back(random_number());
        device.push_back(new Array<float>(rows[rank]));
        choice.rows_of_rank[rank] = device.back()->at;
    }
    Array<float> residual(tokens.size() * HIDDEN);
    choice.residual = residual.at;
    must(oct_cuda_choose_rows(&choice, nullptr), "choice of rows");
    const std::vector<float> found = residual.values();
    const oct_partition partition = oct_model_vocabulary_partition(&program.model);
    for (size_t c = 0; c < tokens.size(); c++) {
        int owner = -1;
        for (int rank = 0; rank < RANKS; rank++) {
            const oct_run tiles = oct_partition_units(&partition, RANKS, rank);
            if (tokens[c] >= 0 && tokens[c] / 16 >= tiles.begin && tokens[c] / 16 < tiles.end)
                owner = rank;
        }
        for (size_t i = c * HIDDEN; i < (c + 1) * HIDDEN; i++)
            if (!same_bits(found[i], owner < 0 ? 0.0f : rows[owner][i])) {
                fail("token %d of rank %d: element %zu is not its owner's", tokens[c], owner, i - c * HIDDEN);
                break;
            }
    }
    for (Array<float> *array : device)
        delete array;
}

// The root of the leaves [begin, end) of a column and element, by the rule alone.
float root(const std::vector<std::vector<float>> &leaves, size_t at, int32_t begin, int32_t end)
{
    if (end - begin == 1)
        return leaves[(size_t)begin][at];
    const int32_t middle = begin + (end - begin + 1) / 2;
    const float first = root(leaves, at, begin, middle);
    return first + root(leaves, at, middle, end);
}

// What a rank publishes: [nodes][columns · hidden].
std::vector<float> publish(const std::vector<std::vector<float>> &leaves, oct_run own)
{
    oct_tree_schedule schedule;
    oct_tree_schedule_leaves(&schedule, (int32_t)leaves.size(), own);
    std::vector<std::vector<float>> stack;
    for (int32_t i = 0; i < schedule.leaves; i++) {
        stack.push_back(leaves[(size_t)(own.begin + i)]);
        for (int merge = 0; merge < schedule.merges[i]; merge++) {
            const std::vector<float> upper = stack.back();
            stack.pop_back();
            for (size_t e = 0; e < upper.size(); e++)
                stack.back()[e] = stack.back()[e] + upper[e];
        }
    }
    std::vector<float> nodes;
    for (const std::vector<float> &node : stack)
        nodes.insert(nodes.end(), node.begin(), node.end());
    return nodes;
}

void check_finish(int32_t granules, int32_t columns, int32_t hidden)
{
    const size_t size = (size_t)(columns * hidden);
    std::vector<std::vector<float>> leaves((size_t)granules);
    std::vector<float> residual, expected;
    for (std::vector<float> &leaf : leaves)
        for (size_t i = 0; i < size; i++)
            leaf.push_back(random_number());
    for (size_t i = 0; i < size; i++) {
        residual.push_back(random_number());
        expected.push_back(residual.back() + root(leaves, i, 0, granules));
    }
    for (int32_t ranks : {1, 2, 3, 5, 7, 8, 16, 48, 64}) {
        oct_tree_finish tree;
        oct_tree_schedule_finish(&tree, granules, ranks);
        std::vector<Array<float> *> device;
        std::vector<const float *> of_rank;
        for (int32_t rank = 0; rank < ranks; rank++) {
            device.push_back(new Array<float>(publish(leaves, oct_partition_cut(granules, ranks, rank))));
            of_rank.push_back(device.back()->at);
        }
        const Array<float> out(residual);
        oct_cuda_finish finish;
        oct_cuda_plan_finish(&finish, &tree, of_rank.data(), ranks, columns, hidden, out.at);
        shuffle();
        must(oct_cuda_finish_tree(&finish, nullptr), "end of a reduction");
        const std::vector<float> found = out.values();
        for (size_t i = 0; i < size; i++)
            if (!same_bits(found[i], expected[i])) {
                fail("%d granules, %d ranks, element %zu: %.9g, expected %.9g", granules, ranks, i, found[i],
                     expected[i]);
                break;
            }
        for (Array<float> *array : device)
            delete array;
    }
}

void test_finish(void)
{
    for (int32_t granules : {1, 2, 3, 8, 9, 28, 48, 63, 64})
        check_finish(granules, 1 + random_below(3), 4 * (1 + random_below(200)));
}
} // namespace

int main()
{
    begin_tests();
    test_embedding();
    test_choice_of_rows();
    test_finish();
    return end_tests("residual");
}
