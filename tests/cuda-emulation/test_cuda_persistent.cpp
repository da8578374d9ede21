// The persistent kernel: a step of one layer, launched kernel by kernel and recorded for it, gives the same bits in all
// that it writes: every encoding, head sizes, 1 to 16 columns, again and again, whatever the schedule. And where its
// barriers are open from the beginning the comparison sees it.
#include "persistent_test.h"

namespace
{
void check_layer(oct_encoding a, oct_encoding b, int32_t head_dim, int32_t columns)
{
    const layer l(a, b, head_dim, columns);
    on_device launched(l);
    launched.issue(nullptr);
    const std::vector<uint8_t> expected = launched.results();
    recording recorded(l);
    for (int again = 0; again < 2; again++) {
        shuffle();
        if (recorded.run() != expected)
            fail("%s and %s, heads of %d, %d columns: other bits in launch %d of the persistent kernel",
                 oct_encoding_describe(a)->name, oct_encoding_describe(b)->name, head_dim, columns, again);
    }
}

// Each encoding beside another one, by turns in the same rings.
void test_encodings(void)
{
    for (int encoding = 0; encoding < OCT_ENCODING_COUNT; encoding++) {
        const int columns = encoding % 3 == 0 ? 1 : encoding % 3 == 1 ? 2 + random_below(7) : 9 + random_below(8);
        check_layer((oct_encoding)encoding, (oct_encoding)random_below(OCT_ENCODING_COUNT), 32, columns);
    }
}

// One tile of queries, and several.
void test_heads(void)
{
    for (int32_t head_dim : {64, 96, 128, 160, 192, 224, 256})
        check_layer(OCT_Q4, OCT_Q8, head_dim, random_below(2) ? 1 : 3 + random_below(6));
}

// A grid whose barriers are open gives other results in some schedule: what the tests above would see.
void test_missing_barriers(void)
{
    if (ON_DEVICE || getenv("CUDA_EMULATION_PTX") != nullptr)
        return; // a matter of luck there; and two kernels that are compared may race in two ways
    const layer l(OCT_Q8, OCT_Q4, 64, 4);
    on_device launched(l);
    launched.issue(nullptr);
    const std::vector<uint8_t> expected = launched.results();
    bool seen = false;
    for (int again = 0; again < 6 && !seen; again++) {
        recording recorded(l);
        const uint32_t open[OCT_CUDA_GRID_WORDS] = {1u << 30, 0};
        recorded.words.put(0, open, OCT_CUDA_GRID_WORDS);
        shuffle();
        must(oct_cuda_program_launch(&recorded.program, nullptr), "the persistent kernel");
        seen = recorded.memory.results() != expected;
    }
    if (!seen)
        fail("nobody saw that the barriers of the grid were open");
}

} // namespace

int main()
{
    begin_tests();
    must(oct_cuda_device_read(&device), "the device");
    must(oct_cuda_projection_load(&device), "loading");
    test_encodings();
    test_heads();
    test_missing_barriers();
    return end_tests("the persistent kernel");
}
