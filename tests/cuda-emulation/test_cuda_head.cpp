// Candidates made on the device are those that the law's own functions make of the same logits on the CPU, byte for
// byte: biases, penalties with drafts behind, every kind of sampling, shards of any size, ties, −0, infinities, NaN,
// largest logits that stand together. And the hash by which ranks are compared.
#include "kernel_test.h"

#include "kernels/cuda/head.h"

extern "C" {
#include "runtime/history.h"
}

enum { VOCABULARY = 45000, USUAL_COLUMNS = 5, KINDS = 7 };

// Logits with ties and both zeros; now and then numbers that are none.
static std::vector<float> random_logits(int rows, int kind)
{
    std::vector<float> logits((size_t)rows);
    for (float &logit : logits) {
        logit = kind == 1 ? (float)(random_below(7) - 3) * -0.0f + (float)(random_below(9) / 8) : random_number() * 12;
        if (kind == 2 && random_below(40) == 0)
            logit = random_below(2) ? NAN : -INFINITY;
        if (kind == 3)
            logit = random_below(2) ? NAN : -INFINITY;
    }
    if (kind == 4 && rows > 0)
        logits[(size_t)random_below(rows)] = INFINITY;
    for (size_t row = 0; row < logits.size(); row++) {
        if (kind == 5) // half of the buckets of groups have all that is large: more than there is room for
            logits[row] = (row / 32 % 128 < 64 ? 64 - (float)(row / 32 % 128) : -50.0f) + random_number() / 2;
        if (kind == 6) // −0 is the largest
            logits[row] = random_below(3) ? -logits[row] * logits[row] : -0.0f;
    }
    return logits;
}

static oct_sampling random_sampling(bool long_list)
{
    oct_sampling s = oct_sampling_default();
    s.seed = random_word();
    if (long_list) {
        s.temperature = 1;
        s.top_k = 150;
        return s;
    }
    if (random_below(3) != 0)
        s.temperature = 0.1f + (float)random_below(30) / 10;
    if (random_below(3) == 0)
        s.top_k = 1 + random_below(200);
    if (random_below(3) == 0)
        s.top_p = 0.9f;
    if (random_below(4) == 0)
        s.min_p = 0.05f;
    if (random_below(3) == 0)
        s.logprobs = random_below(OCT_MAX_LOGPROBS + 1);
    if (random_below(2) == 0)
        s.repetition_penalty = 1.3f, s.presence_penalty = 0.4f, s.frequency_penalty = 0.3f;
    if (random_below(2) == 0)
        for (s.bias_count = 0; s.bias_count < 20; s.bias_count++)
            s.biases[s.bias_count] = {s.bias_count * 411 + random_below(400), random_number() * 20};
    return s;
}

static oct_history random_history(void)
{
    oct_history history;
    must(oct_history_create(&history, VOCABULARY, 100), "history");
    for (int i = 0; i < 100; i++) {
        const int32_t token = random_below(40) * 200 + random_below(3);
        must(i < 50 ? oct_history_append_prompt(&history, &token, 1) : oct_history_append_output(&history, &token, 1),
             "history");
    }
    return history;
}

// What the CPU makes of a column; with a maximum, which stands for the whole vocabulary's.
static std::vector<uint8_t> expect(const oct_column_sampling &column, std::vector<float> &logits, int first,
                                   float *maximum)
{
    const oct_sampling *s = column.sampling;
    const int rows = (int)logits.size(), size = oct_sampling_list_size(s);
    std::vector<uint8_t> bytes(oct_candidates_bytes(size));
    oct_candidates candidates;
    oct_sampling_adjust(s, column.history, column.history_length, logits.data(), first, rows);
    *maximum = oct_sampling_maximum(logits.data(), rows);
    oct_candidates_make(&candidates, s, column.position, logits.data(), first, rows, *maximum + 1, nullptr, size);
    memcpy(bytes.data(), &candidates, bytes.size());
    return bytes;
}

// By bits, but any NaN is as good as another: which one NaN + bias gives is left to the processor (IEEE 754-2008,
// 6.2.3; GPUs always give 0x7fffffff), and the law takes all of them for −infinity.
static bool same_logits(const float *a, const std::vector<float> &b)
{
    for (size_t i = 0; i < b.size(); i++)
        if (!same_bits(a[i], b[i]) && !(std::isnan(a[i]) && std::isnan(b[i])))
            return false;
    return true;
}

static void check_column(int c, const oct_column_sampling &column, std::vector<float> logits, const float *adjusted,
                         int first, float maximum, const oct_candidates &found)
{
    float expected_maximum;
    const std::vector<uint8_t> expected = expect(column, logits, first, &expected_maximum);
    if (!same_logits(adjusted, logits))
        fail("column %d: adjusted logits differ", c);
    if (!same_bits(maximum, expected_maximum))
        fail("column %d: maximum %g, expected %g", c, (double)maximum, (double)expected_maximum);
    if (memcmp(&found, expected.data(), expected.size()) == 0)
        return;
    oct_candidates want;
    memcpy(&want, expected.data(), expected.size());
    fail("column %d of %d rows from %d: best %d (%a, %a), expected %d (%a, %a); mass %lld, expected %lld; list %d, "
         "expected %d",
         c, (int)logits.size(), first, (int)found.best.token, (double)found.best.score, (double)found.best.logit,
         (int)want.best.token, (double)want.best.score, (double)want.best.logit, (long long)found.mass,
         (long long)want.mass, (int)found.count, (int)want.count);
}

static void test_shard(int first, int rows, int kind, int count)
{
    std::vector<oct_sampling> samplings((size_t)count);
    std::vector<oct_history> histories((size_t)count);
    std::vector<oct_column_sampling> columns((size_t)count);
    std::vector<std::vector<float>> logits((size_t)count);
    std::vector<oct_cuda_sampled_column> described((size_t)count);
    std::vector<oct_logit_bias> biases((size_t)count * OCT_MAX_LOGIT_BIASES);
    std::vector<oct_cuda_penalty> penalties((size_t)count * 100);
    oct_cuda_adjustments adjustments = {
        biases.data(), penalties.data(), (int)biases.size(), (int)penalties.size(), 0, 0};
    const int64_t stride = (rows + 3) / 4 * 4 + 8;
    std::vector<float> all((size_t)(count * stride), 77.0f);
    for (int c = 0; c < count; c++) {
        samplings[(size_t)c] = random_sampling(c == 0);
        histories[(size_t)c] = random_history();
        columns[(size_t)c] = {c == 3 ? nullptr : &samplings[(size_t)c], &histories[(size_t)c], 60 + random_below(60),
                              random_word() >> random_below(64)};
        logits[(size_t)c] = random_logits(rows, kind);
        std::copy(logits[(size_t)c].begin(), logits[(size_t)c].end(), &all[(size_t)(c * stride)]);
        must(oct_cuda_describe_column(&columns[(size_t)c], first, rows, &adjustments, &described[(size_t)c]),
             "describe");
    }
    const Array<float> device_logits(all), maxima((size_t)count), residual(std::vector<float>(4));
    const Array<uint32_t> arrivals{std::vector<uint32_t>((size_t)count)};
    const Array<int32_t> nowhere(std::vector<int32_t>((size_t)count, -1));
    const Array<uint64_t> hashes((size_t)count);
    const Array<oct_cuda_sampled_column> device_columns(described);
    const Array<oct_logit_bias> device_biases(biases);
    const Array<oct_cuda_penalty> device_penalties(penalties);
    const Array<uint8_t> scratch(oct_cuda_selection_scratch_bytes(rows, count));
    const Array<oct_candidates> candidates((size_t)count);
    const oct_cuda_selection selection = {device_logits.at,
                                          stride,
                                          first,
                                          rows,
                                          count,
                                          device_columns.at,
                                          device_biases.at,
                                          device_penalties.at,
                                          scratch.at,
                                          arrivals.at,
                                          candidates.at,
                                          maxima.at,
                                          {nowhere.at, residual.at, 4, hashes.at}};
    must(oct_cuda_select(&selection, nullptr), "select");
    std::vector<float> global = maxima.values();
    for (float &maximum : global)
        maximum += 1; // as if another rank had a larger one
    const Array<float> agreed(global);
    must(oct_cuda_add_masses(&selection, agreed.at, nullptr), "masses");
    const std::vector<float> adjusted = device_logits.values(), found_maxima = maxima.values();
    const std::vector<oct_candidates> found = candidates.values();
    for (uint32_t arrived : arrivals.values())
        if (arrived != 0)
            fail("%d arrivals are left for the next launch", (int)arrived);
    for (int c = 0; c < count; c++) {
        if (columns[(size_t)c].sampling != nullptr)
            check_column(c, columns[(size_t)c], logits[(size_t)c], &adjusted[(size_t)(c * stride)], first,
                         found_maxima[(size_t)c], found[(size_t)c]);
        else if (rows > 0 && memcmp(&adjusted[(size_t)(c * stride)], logits[(size_t)c].data(), (size_t)rows * 4) != 0)
            fail("a column that is not sampled was changed");
        oct_history_destroy(&histories[(size_t)c]);
        for (int64_t i = rows; i < stride; i++)
            if (adjusted[(size_t)(c * stride + i)] != 77.0f)
                fail("wrote behind the rows of column %d", c);
    }
}

// Hashes alone: no column is sampled.
static std::vector<uint64_t> hash(const std::vector<float> &residual, int32_t hidden,
                                  const std::vector<int32_t> &columns)
{
    const Array<float> device(residual);
    const Array<int32_t> list(columns);
    const Array<uint64_t> hashes(columns.size());
    const Array<oct_cuda_sampled_column> described{std::vector<oct_cuda_sampled_column>(columns.size())};
    const Array<uint8_t> scratch(oct_cuda_selection_scratch_bytes(0, (int)columns.size()));
    oct_cuda_selection selection = {};
    selection.columns = (int)columns.size();
    selection.sampled = described.at;
    selection.scratch = scratch.at;
    selection.hash = {list.at, device.at, hidden, hashes.at};
    shuffle();
    must(oct_cuda_select(&selection, nullptr), "select");
    return hashes.values();
}

static void test_hash(void)
{
    enum { COLUMNS = 3, HIDDEN = 1540 };
    std::vector<float> residual;
    for (int i = 0; i < COLUMNS * HIDDEN; i++)
        residual.push_back(random_number());
    const std::vector<uint64_t> all = hash(residual, HIDDEN, {0, 1, 2, -1});
    if (hash(residual, HIDDEN, {2, 0, -1, 1}) != std::vector<uint64_t>{all[2], all[0], 0, all[1]} || all[3] != 0)
        fail("a column's hash depends on its place");
    if (all[0] == all[1] || all[1] == all[2])
        fail("different columns have one hash");
    for (int round = 0; round < 20; round++) {
        std::vector<float> other = residual;
        const size_t at = (size_t)random_below(COLUMNS * HIDDEN), column = at / HIDDEN;
        uint32_t bits;
        memcpy(&bits, &other[at], sizeof bits);
        bits ^= 1u << random_below(32);
        memcpy(&other[at], &bits, sizeof bits);
        const std::vector<uint64_t> changed = hash(other, HIDDEN, {0, 1, 2});
        for (size_t c = 0; c < COLUMNS; c++)
            if ((changed[c] == all[c]) == (c == column))
                fail("a bit of column %zu: the hash of column %zu is %s", column, c,
                     c == column ? "the same" : "another");
        std::swap(other[column * HIDDEN], other[column * HIDDEN + 1]);
        if (hash(other, HIDDEN, {(int32_t)column})[0] == changed[column])
            fail("two elements can be exchanged without another hash");
    }
    if (oct_cuda_join_hashes(all.data(), 2) == oct_cuda_join_hashes(all.data(), 3) ||
        oct_cuda_join_hashes(all.data(), 2) != oct_cuda_join_hashes(all.data(), 2))
        fail("joined hashes do not tell columns apart");
}

int main(void)
{
    begin_tests();
    // Parts that are whole, cut and empty; few rows, one row, none.
    const int shards[][2] = {{0, 2048}, {16, 4100}, {4096, 4904}, {160, 50}, {64, 1}, {8992, 8}, {32, 0}};
    for (const int *shard : shards)
        for (int kind = 0; kind < KINDS; kind++)
            test_shard(shard[0], shard[1], kind, USUAL_COLUMNS);
    for (int kind : {0, 3, 5}) // more groups than there is room for
        test_shard(64, 40000, kind, USUAL_COLUMNS);
    test_shard(128, 44864, 0, 1);
    test_shard(64, 30000, 0, 17); // a thread has more logits in its part than it reads ahead
    test_hash();
    shuffle();
    for (int kind = 0; kind < KINDS; kind++)
        test_shard(0, 5000, kind, USUAL_COLUMNS);
    return end_tests("head");
}
