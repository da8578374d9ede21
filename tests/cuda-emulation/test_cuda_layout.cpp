// The order of weights on the device: undone it is the checkpoint's, byte for byte; the kernel makes what the host
// makes; f32 and f16 become the bf16 that the converted matrix has; a fragment holds what the tensor core asks for.
#include "kernel_test.h"

#include "kernels/cuda/layout.h"

struct Range {
    int64_t first, last;
};
// Whole blocks and parts of them at both ends, widths that are no multiple of 32.
static const Range ranges[] = {{0, 576}, {448, 896}, {96, 128}, {32, 33}, {224, 288}, {0, 250}, {256, 521}};

static std::vector<uint8_t> device_order(oct_encoding encoding, Range range, const std::vector<uint8_t> &strip)
{
    std::vector<uint8_t> out(oct_strip_bytes(oct_cuda_encoding(encoding), range.first, range.last), 0xff);
    oct_cuda_layout_strip(encoding, range.first, range.last, strip.data(), out.data());
    return out;
}

static void test_inverse(oct_encoding encoding, Range range)
{
    const std::vector<uint8_t> strip = random_strip(encoding, range.first, range.last);
    const std::vector<uint8_t> there = device_order(encoding, range, strip);
    if (oct_cuda_encoding(encoding) != encoding)
        return;
    std::vector<uint8_t> back(strip.size(), 0xff);
    oct_cuda_restore_strip(encoding, range.first, range.last, there.data(), back.data());
    if (back != strip)
        fail("%s [%d, %d): restored strip differs", oct_encoding_describe(encoding)->name, (int)range.first,
             (int)range.last);
    if (there == strip)
        fail("%s [%d, %d): nothing was permuted", oct_encoding_describe(encoding)->name, (int)range.first,
             (int)range.last);
}

static void test_kernel(oct_encoding encoding, Range range)
{
    enum { STRIPS = 3 };
    std::vector<uint8_t> from, expected;
    for (int i = 0; i < STRIPS; i++) {
        const std::vector<uint8_t> strip = random_strip(encoding, range.first, range.last);
        const std::vector<uint8_t> there = device_order(encoding, range, strip);
        from.insert(from.end(), strip.begin(), strip.end());
        expected.insert(expected.end(), there.begin(), there.end());
    }
    const Array<uint8_t> input(from), output(expected.size());
    must(oct_cuda_layout_strips(encoding, range.first, range.last, STRIPS, input.at, output.at, nullptr), "layout");
    if (output.values() != expected)
        fail("%s [%d, %d): the kernel's order differs from the host's", oct_encoding_describe(encoding)->name,
             (int)range.first, (int)range.last);
}

static void test_floats(oct_encoding encoding, Range range)
{
    const std::vector<uint8_t> strip = random_strip(encoding, range.first, range.last);
    std::vector<uint8_t> converted(oct_strip_bytes(OCT_BF16, range.first, range.last));
    const int64_t n = oct_pad_columns(range.last - range.first);
    std::vector<float> row((size_t)n);
    for (int r = 0; r < 16; r++) {
        oct_strip_decode_row(encoding, strip.data(), range.first, range.first + n, r, row.data());
        for (int64_t c = 0; c < n; c++) {
            const uint16_t value = oct_f32_to_bf16(row[(size_t)c]);
            memcpy(&converted[(size_t)(c / 2 * 64 + r * 4 + c % 2 * 2)], &value, 2);
        }
    }
    if (device_order(encoding, range, strip) != device_order(OCT_BF16, range, converted))
        fail("%s: not the bf16 of the matrix", oct_encoding_describe(encoding)->name);
}

// Register a of lane (g, t) holds row g + 8 (a % 2), columns 2t + 8 (a / 2) and the next.
static void test_fragments(void)
{
    const Range range = {0, 64};
    const std::vector<uint8_t> strip = random_strip(OCT_BF16, 0, 64), there = device_order(OCT_BF16, range, strip);
    for (int k = 0; k < 4; k++)
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 8; i++) {
                const int row = lane / 4 + i / 2 % 2 * 8, column = k * 16 + lane % 4 * 2 + i / 4 * 8 + i % 2;
                uint16_t value;
                memcpy(&value, &there[(size_t)((k * 32 + lane) * 8 + i) * 2], 2);
                if (oct_bf16_to_f32(value) != weight_of_block(OCT_BF16, strip.data(), 64, row, column).value())
                    fail("bf16: fragment %d of lane %d, value %d", k, lane, i);
            }
}

int main(void)
{
    begin_tests();
    for (int encoding = 0; encoding < OCT_ENCODING_COUNT; encoding++)
        for (const Range &range : ranges) {
            test_inverse((oct_encoding)encoding, range);
            test_kernel((oct_encoding)encoding, range);
            if (oct_encoding_describe((oct_encoding)encoding)->float_bytes != 0)
                test_floats((oct_encoding)encoding, range);
        }
    test_fragments();
    return end_tests("layout");
}
