// Philox against its published vectors, and the noise over its 2^32 words: never +infinity or NaN, −infinity
// only where it must be, close to the exact value. By default every 101st word and the borders; OCT_TEST_FULL=1
// takes every word.
#include "tests/unit/kernel_checks.h"

#include <math.h>

#include "runtime/noise.h"

#define CHUNK 4096

// Random123 1.14, tests/kat_vectors, the lines philox4x32 10.
static void test_philox_gives_its_published_vectors(void **state)
{
    (void)state;
    static const uint32_t vectors[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e,
         0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        oct_philox(vectors[i], vectors[i] + 4, out);
        assert_true(memcmp(out, vectors[i] + 6, sizeof out) == 0);
    }
}

static void test_noise_is_philox_of_token_position_and_seed(void **state)
{
    (void)state;
    const uint64_t seed = UINT64_C(0x123456789abcdef0), position = UINT64_C(0x3000000007);
    for (int32_t token = 0; token < 10; token++) {
        uint32_t counter[4] = {(uint32_t)token / 4, 0, 7, 0x30}, key[2] = {0x9abcdef0, 0x12345678}, out[4];
        oct_philox(counter, key, out);
        assert_true(oct_noise(seed, position, token) == oct_gumbel(out[token % 4]));
    }
}

// v is at least 1 − 2^-25 and rounds to 1 (to even) exactly where (word + 0.5) · 2^-32 is.
static bool is_one(uint32_t word)
{
    return ((double)word + 0.5) * 0x1p-32 >= 1 - 0x1p-25;
}

// log1p and log are within 0.95 ulp, that is 1.5 · 2^-23 relative at most
// with room. E = −log1p(−v) keeps its relative error in log E as an absolute one
// (1.5 · 2^-23), to which comes log's own error.
static void check_close(uint32_t word, float found)
{
    double v = (double)(float)(((double)word + 0.5) * 0x1p-32);
    double exact = -log(-log1p(-v)), bound = 1.5 * 0x1p-23 + 1.5 * 0x1p-23 * fabs(exact);
    if (!(fabs((double)found - exact) <= bound))
        fail_msg("word %08x: noise %a, expected %a", word, (double)found, exact);
}

static void check_words(const uint32_t words[CHUNK])
{
    for (int i = 0; i < CHUNK; i++) {
        const float noise = oct_gumbel(words[i]);
        if (!(noise < 23.0f) || (noise < -3.0f && !(noise == -INFINITY && is_one(words[i]))))
            fail_msg("word %08x: noise %a", words[i], (double)noise);
    }
}

static void test_noise_of_all_words(void **state)
{
    (void)state;
    uint64_t step = check_stride(101);
    static uint32_t words[CHUNK];
    uint64_t chunks = 0;
    for (uint64_t word = 0; word <= UINT32_MAX; word += step * CHUNK, chunks++) {
        for (uint64_t i = 0; i < CHUNK; i++)
            words[i] = (uint32_t)(word + i * step < UINT32_MAX ? word + i * step : UINT32_MAX);
        check_words(words);
        if (chunks % 8 == 0)
            for (int i = 0; i < CHUNK; i += 16)
                if (!is_one(words[i]))
                    check_close(words[i], oct_gumbel(words[i]));
    }
}

static void test_noise_at_the_borders(void **state)
{
    (void)state;
    static uint32_t words[CHUNK];
    for (uint32_t power = 0; power < 33; power++) {
        uint32_t middle = (uint32_t)(UINT64_C(1) << power);
        for (uint32_t i = 0; i < CHUNK; i++)
            words[i] = middle + i - CHUNK / 2; // wraps: 0 and 2^32 − 1 are neighbours
        check_words(words);
        for (int i = 0; i < CHUNK; i++)
            if (!is_one(words[i]))
                check_close(words[i], oct_gumbel(words[i]));
    }
    assert_true(oct_gumbel(UINT32_MAX) == -INFINITY);
    assert_true(fabs((double)oct_gumbel(0) - 33 * log(2)) < 1e-5); // v = 2^-33, E = v
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_gives_its_published_vectors),
        cmocka_unit_test(test_noise_is_philox_of_token_position_and_seed),
        cmocka_unit_test(test_noise_of_all_words),
        cmocka_unit_test(test_noise_at_the_borders),
    };
    return check_finish(cmocka_run_group_tests(tests, check_begin, NULL));
}
