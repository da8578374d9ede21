// What threads do with memory and with each other in the PTX interpreter: loads, stores, atomics, shuffles,
// votes, matrices, copies, branches; and the mistakes that it ends a run for.
#include <algorithm>

#include "cuda_emulation.h"
#include "ptx_checks.h"

using namespace ptx_checks;

static inputs random_inputs(size_t n)
{
    return mixed_inputs(n, special_integers());
}

// ---- memory ----
// The inputs themselves are read again, byte by byte and in vectors: %d12 is the address of the thread's four
// words.
static void test_loads(void **)
{
    inputs in = random_inputs(500);
    check("ld.global.s8 %r9, [%d12+3];", in,
          [](uint64_t a, uint64_t, uint64_t, uint64_t) { return static_cast<int8_t>(a >> 24); });
    check("ld.global.u8 %r9, [%d12+3];", in,
          [](uint64_t a, uint64_t, uint64_t, uint64_t) { return static_cast<uint8_t>(a >> 24); });
    check_wide("ld.global.s16 %d9, [%d12+10];", in,
               [](uint64_t, uint64_t b, uint64_t, uint64_t) { return static_cast<int16_t>(b >> 16); });
    check_wide("ld.global.s32 %d9, [%d12+12];", in,
               [](uint64_t, uint64_t b, uint64_t, uint64_t) { return static_cast<int32_t>(b >> 32); });
    check("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%r5, _, %r7, %r8}, [%d12+16];\n\txor.b32 %r9, %r5, "
          "%r7;\n\txor.b32 %r9, %r9, %r8;",
          in, [](uint64_t, uint64_t, uint64_t c, uint64_t d) { return c ^ d ^ d >> 32; });
    check_wide("ld.global.v4.b64 {%d4, %d5, %d6, %d7}, [%d12];\n\tsub.s64 %d9, %d7, %d4;", in,
               [](uint64_t a, uint64_t, uint64_t, uint64_t d) { return d - a; });
    check("ld.acquire.gpu.global.u32 %r9, [%d12+8];", in,
          [](uint64_t, uint64_t b, uint64_t, uint64_t) { return b; });
    check("ld.volatile.f32 %r9, [%d12+8];", in, [](uint64_t, uint64_t b, uint64_t, uint64_t) { return b; });
}

// Local and shared memory; a thread's words in shared memory, read back by its neighbour behind a barrier.
static void test_stores(void **)
{
    inputs in = random_inputs(256);
    const std::string local = "\t.local .align 16 .b8 place[64];\n",
                      shared = "\t.shared .align 16 .b8 words[512];\n";
    std::vector<uint64_t> found =
        run("mov.u64 %d20, place;\n\tcvta.local.u64 %d21, %d20;\n\tst.local.v2.u32 [%d20+8], {%r1, %r0};\n\t"
            "ld.u64 %d9, [%d21+8];",
            in, 32, local);
    for (size_t k = 0; k < in.size(); k++)
        assert_true(found[k] == (static_cast<uint32_t>(in[k][1]) | in[k][0] << 32));
    found = run("mov.u32 %r20, words;\n\tshl.b32 %r21, %r12, 3;\n\tadd.s32 %r22, %r20, "
                "%r21;\n\tst.shared.b64 [%r22], %d0;\n\tbar.sync 0;\n\t"
                "xor.b32 %r23, %r21, 8;\n\tcvt.u64.u32 %d20, %r20;\n\tcvta.shared.u64 %d21, "
                "%d20;\n\tcvt.u64.u32 %d22, %r23;\n\t"
                "add.s64 %d23, %d21, %d22;\n\tld.u64 %d9, [%d23];",
                in, 64, shared);
    for (size_t k = 0; k < in.size(); k++)
        assert_true(found[k] == in[k ^ 1][0]);
}

// Dynamic shared memory lies behind the static, and nothing between the two is memory.
static void test_dynamic_memory(void **)
{
    inputs in = random_inputs(8);
    const std::string place = "\t.shared .align 16 .b8 place[1024];\n";
    std::vector<uint64_t> found =
        run("mov.u32 %r20, dynamic;\n\tshl.b32 %r21, %r12, 3;\n\tadd.s32 %r22, %r20, %r21;\n\t"
            "st.shared.u64 [%r22], %d0;\n\tst.shared.u64 [place+1016], 0;\n\tbar.sync 0;\n\t"
            "ld.shared.u64 %d9, [%r22];",
            in, 8, place);
    for (size_t k = 0; k < in.size(); k++)
        assert_true(found[k] == in[k][0]);
}

static void test_atomics(void **)
{
    inputs in(64);
    for (auto &words : in)
        words = {random_word() % 100, 0, 0, 0};
    auto total = [&](const std::string &operation, uint64_t first, auto combine) {
        std::vector<uint64_t> found =
            run("mov.u32 %r20, word;\n\tsetp.eq.u32 %p1, %r12, 0;\n\t@%p1 st.shared.u32 [%r20], " +
                    std::to_string(first) + ";\n\tbar.sync 0;\n\t" + operation +
                    "\n\tbar.sync 0;\n\tld.shared.u32 %r9, [%r20];\n\tcvt.u64.u32 %d9, %r9;",
                in, 64, "\t.shared .align 4 .b8 word[4];\n");
        uint32_t want = static_cast<uint32_t>(first);
        for (const auto &words : in)
            want = combine(want, static_cast<uint32_t>(words[0]));
        for (uint64_t word : found)
            assert_int_equal(word, want);
    };
    cuda_emulation_configure("random", random_word(), nullptr);
    total("atom.shared.add.u32 %r5, [word], %r0;", 7, [](uint32_t a, uint32_t b) { return a + b; });
    total("red.shared.max.u32 [word], %r0;", 7, [](uint32_t a, uint32_t b) { return std::max(a, b); });
    total("atom.shared.min.s32 %r5, [word], %r0;", 50, [](uint32_t a, uint32_t b) { return std::min(a, b); });
    total("atom.shared.xor.b32 %r5, [word], %r0;", 0, [](uint32_t a, uint32_t b) { return a ^ b; });
    total("atom.acq_rel.cta.shared::cta.or.b32 %r5, [word], %r0;", 0,
          [](uint32_t a, uint32_t b) { return a | b; });
    total("atom.inc.shared.u32 %r5, [word], 9;", 0, [](uint32_t a, uint32_t) { return a >= 9 ? 0 : a + 1; });
    // A sum by compare and exchange, in a loop whose labels stand in a scope of their own.
    total("{ .reg .pred %q; .reg .b32 %old; ld.relaxed.cta.shared.u32 %old, [word];\nAGAIN: mov.u32 %r6, %old; add.s32 "
          "%r7, %r6, %r0; "
          "atom.shared.cas.b32 %old, [word], %r6, %r7; setp.ne.u32 %q, %old, %r6; @%q bra AGAIN; }",
          7, [](uint32_t a, uint32_t b) { return a + b; });
    cuda_emulation_configure("fifo", 0, nullptr);
}

// ---- warps ----
static void test_shuffles(void **)
{
    inputs in = random_inputs(32);
    // The clamp of __shfl_*_sync() for a width: (32 − width) << 8 | 31, without the 31 where it goes up.
    for (int width : {4, 8, 16, 32})
        for (uint32_t by : {0u, 1u, 3u, 5u, 17u}) {
            std::string arguments = " %r9|%p1, %r0, " + std::to_string(by) + ", ";
            std::string clamp = std::to_string((32 - width) << 8 | 31),
                        clamp_up = std::to_string((32 - width) << 8);
            auto source = [&](int kind, int lane) {
                return cuda_emulation::shuffle_source(lane, kind, static_cast<int>(by), width);
            };
            const struct {
                std::string name;
                int kind;
                const std::string &clamp;
            } forms[] = {{"idx", cuda_emulation::SHUFFLE_INDEX, clamp},
                         {"down", cuda_emulation::SHUFFLE_DOWN, clamp},
                         {"up", cuda_emulation::SHUFFLE_UP, clamp_up},
                         {"bfly", cuda_emulation::SHUFFLE_XOR, clamp}};
            for (const auto &f : forms) {
                std::vector<uint64_t> found = run("shfl.sync." + f.name + ".b32" + arguments + f.clamp +
                                                      ", -1;\n\tcvt.u64.u32 %d9, %r9;",
                                                  in);
                for (int lane = 0; lane < 32; lane++)
                    assert_int_equal(found[static_cast<size_t>(lane)],
                                     static_cast<uint32_t>(in[static_cast<size_t>(source(f.kind, lane))][0]));
            }
        }
}

static void test_votes(void **)
{
    inputs in(32);
    for (auto &words : in)
        words = {random_word() % 3, random_word() % 2, 0, 0};
    uint32_t ballot = 0, sum = 0, most = 0, least = ~0u;
    for (size_t lane = 0; lane < 32; lane++) {
        ballot |= static_cast<uint32_t>(in[lane][0] == 0) << lane;
        sum += static_cast<uint32_t>(in[lane][0]);
        most = std::max(most, static_cast<uint32_t>(in[lane][0]));
        least = std::min(least, static_cast<uint32_t>(in[lane][0]));
    }
    auto same = [&](const std::string &lines, uint32_t want) {
        check(lines, in, [&](uint64_t, uint64_t, uint64_t, uint64_t) { return want; });
    };
    same("setp.eq.u32 %p1, %r0, 0;\n\tvote.sync.ballot.b32 %r9, %p1, -1;", ballot);
    same("setp.eq.u32 %p1, %r0, 0;\n\tvote.sync.any.pred %p2, !%p1, -1;\n\tselp.u32 %r9, 1, 0, %p2;",
         ballot != ~0u);
    same("setp.le.u32 %p1, %r0, 2;\n\tvote.sync.all.pred %p2, %p1, -1;\n\tselp.u32 %r9, 1, 0, %p2;", 1);
    same("redux.sync.add.u32 %r9, %r0, -1;", sum);
    same("redux.sync.max.u32 %r9, %r0, -1;", most);
    same("redux.sync.min.s32 %r9, %r0, -1;", least);
    check("match.any.sync.b32 %r9, %r0, -1;", in, [&](uint64_t a, uint64_t, uint64_t, uint64_t) {
        uint32_t equal = 0;
        for (size_t lane = 0; lane < 32; lane++)
            equal |= static_cast<uint32_t>(in[lane][0] == a) << lane;
        return equal;
    });
    std::vector<uint64_t> found =
        run("elect.sync %r8|%p1, -1;\n\tselp.u32 %r9, 1, 0, %p1;\n\tcvt.u64.u32 %d9, %r9;", in);
    assert_int_equal(std::count(found.begin(), found.end(), 1), 1);
}

// ---- matrices ----
// a [16][16] and b [16][8] of small integers, written to shared memory, loaded by ldmatrix, multiplied:
// exact.
static void test_matrices(void **)
{
    int a[16][16], b[16][8];
    inputs in(32);
    for (auto &row : a)
        for (int &value : row)
            value = static_cast<int>(random_word() % 17) - 8;
    for (auto &row : b)
        for (int &value : row)
            value = static_cast<int>(random_word() % 17) - 8;
    auto bf16 = [](int value) { return static_cast<uint64_t>(bits_of(static_cast<float>(value)) >> 16); };
    // Lane l brings half a row of a (columns 8 (l / 16) … of row l mod 16) and, below 16, row l of b.
    for (size_t lane = 0; lane < 32; lane++)
        for (size_t k = 0; k < 8; k++) {
            in[lane][k / 4] |= bf16(a[lane % 16][lane / 16 * 8 + k]) << (16 * (k % 4));
            in[lane][2 + k / 4] |= bf16(b[lane % 16][k]) << (16 * (k % 4));
        }
    const std::string lines =
        "mov.u32 %r20, halves;\n\tshl.b32 %r21, %r12, 4;\n\tadd.s32 %r22, %r20, %r21;\n\tst.shared.v2.b64 "
        "[%r22], {%d0, %d1};\n\t"
        "st.shared.v2.b64 [%r22+512], {%d2, %d3};\n\tbar.sync 0;\n\t"
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0, %r1, %r2, %r3}, [%r22];\n\t"
        "ldmatrix.sync.aligned.m8n8.x2.trans.shared::cta.b16 {%r4, %r5}, [%r22+512];\n\t"
        "mov.f32 %r6, 0f3F800000;\n\tmov.f32 %r7, 0f00000000;\n\t"
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r14, %r15, %r16, %r17}, {%r0, %r1, %r2, %r3}, "
        "{%r4, %r5}, {%r6, %r7, %r7, %r7};\n\t"
        "cvt.rni.s32.f32 %r14, %r14;\n\tcvt.rni.s32.f32 %r15, %r15;\n\tcvt.rni.s32.f32 %r16, "
        "%r16;\n\tcvt.rni.s32.f32 %r17, %r17;\n\t"
        "mov.b64 %d4, {%r14, %r15};\n\tmov.b64 %d5, {%r16, %r17};\n\t";
    for (int half = 0; half < 2; half++) {
        std::vector<uint64_t> found = run(lines + (half ? "mov.u64 %d9, %d5;" : "mov.u64 %d9, %d4;"), in, 32,
                                          "\t.shared .align 16 .b8 halves[1024];\n");
        for (size_t lane = 0; lane < 32; lane++)
            for (size_t k = 0; k < 2; k++) {
                size_t row = lane / 4 + 8 * static_cast<size_t>(half), column = 2 * (lane % 4) + k;
                int want = half == 0 && k == 0;
                for (size_t j = 0; j < 16; j++)
                    want += a[row][j] * b[j][column];
                assert_int_equal(static_cast<int32_t>(found[lane] >> (32 * k)), want);
            }
    }
}

// ---- copies ----
static const std::string place = "\t.shared .align 16 .b8 place[1024];\n\t.shared .align 8 .b8 barrier[8];\n";

static void test_copies(void **)
{
    inputs in = random_inputs(32);
    const std::string copy =
        "mov.u32 %r20, place;\n\tshl.b32 %r21, %r12, 5;\n\tadd.s32 %r22, %r20, %r21;\n\t"
        "cp.async.cg.shared.global.L2::128B [%r22], [%d12], 16, 12;\n\tcp.async.commit_group;\n\t"
        "cp.async.ca.shared.global [%r22+16], [%d12+16], 8;\n\tcp.async.commit_group;\n\t";
    std::vector<uint64_t> found = run(
        copy + "cp.async.wait_group 1;\n\tld.shared.u64 %d9, [%r22+8];\n\tld.shared.u64 %d8, [%r22+16];\n\t"
               "setp.ne.s64 %p1, %d8, -1;\n\t@%p1 mov.u64 %d9, 1;\n\tcp.async.wait_all;",
        in, 32, place);
    for (size_t k = 0; k < in.size(); k++)
        assert_true(found[k] ==
                    (in[k][1] & 0xffffffff)); // 12 bytes of 16 are read, the second copy has not landed
    // One thread copies what all read behind a barrier in memory.
    found = run("mov.u32 %r20, barrier;\n\tsetp.ne.u32 %p1, %r12, 0;\n\t@%p1 bra "
                "WAIT;\n\tmbarrier.init.shared::cta.b64 [%r20], 1;\n\t"
                "fence.mbarrier_init.release.cluster;\n\tmbarrier.arrive.expect_tx.release.cta.shared::cta."
                "b64 _, [%r20], 1024;\n\t"
                "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [place], [%d12], 1024, "
                "[%r20];\nWAIT:\n\tbar.sync 0;\nAGAIN:\n\t"
                "mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r20], 0;\n\t@!%p2 bra AGAIN;\n\tmov.u32 "
                "%r23, place;\n\tshl.b32 %r21, %r12, 5;\n\t"
                "add.s32 %r22, %r23, %r21;\n\tld.shared.u64 %d9, [%r22+24];",
                in, 32, place);
    for (size_t k = 0; k < in.size(); k++)
        assert_true(found[k] == in[k][3]);
}

// ---- branches ----
static void test_branches(void **)
{
    inputs in(100);
    for (size_t k = 0; k < in.size(); k++)
        in[k] = {k % 4, k, 0, 0};
    check("brx.idx %r0, TABLE;\nTABLE: .branchtargets A, B, C, A;\nA:\n\tmov.u32 %r9, 10;\n\tbra.uni "
          "OUT;\nB:\n\tmov.u32 %r9, 11;\n\tbra OUT;\nC:\n\tmov.u32 %r9, 12;\nOUT:",
          in, [](uint64_t a, uint64_t, uint64_t, uint64_t) { return a == 1   ? 11
                                                                    : a == 2 ? 12
                                                                             : 10; });
    check("mov.u32 %r9, 0;\n\tmov.u32 %r5, 0;\nLOOP:\n\tsetp.ge.u32 %p1, %r5, %r1;\n\t@%p1 bra "
          "OUT;\n\tadd.s32 %r9, %r9, %r5;\n\tadd.s32 %r5, %r5, 1;\n\tbra LOOP;\nOUT:",
          in, [](uint64_t, uint64_t n, uint64_t, uint64_t) { return n * (n - 1) / 2; });
    // The same label in two scopes, as inline assembly has it.
    check("mov.u32 %r9, 0;\n\t{ .reg .pred p; L: add.s32 %r9, %r9, 1; setp.lt.u32 p, %r9, 5; @p bra L; "
          "}\n\t{ .reg .pred p; L: add.s32 %r9, %r9, 2; setp.lt.u32 p, %r9, 9; @p bra L; }",
          in, [](uint64_t, uint64_t, uint64_t, uint64_t) { return 9; });
}

// ---- what ends a run ----
static void expect_death(const std::string &lines, const std::string &said,
                         const std::string &declarations = "")
{
    inputs in = random_inputs(32);
    std::string all = run_to_death(lines, in, declarations);
    if (all.find(said) == std::string::npos || all.find("lines.ptx:") == std::string::npos)
        fail_msg("%s: was expected to say '%s' and the line, said:\n%s", lines.c_str(), said.c_str(),
                 all.c_str());
}

// Functions have registers of their own, share memory with who calls them, call others, and may end the thread.
static void test_functions(void **)
{
    const std::string functions = ".func twice()\n{\n.reg .b32 %r<3>;\n.reg .pred %p<2>;\nmov.u32 %r0, %tid.x;\n"
                                  "shl.b32 %r0, %r0, 2;\nmov.u32 %r1, dynamic;\nadd.u32 %r0, %r0, %r1;\n"
                                  "ld.shared.u32 %r1, [%r0];\nadd.u32 %r1, %r1, %r1;\nst.shared.u32 [%r0], %r1;\n"
                                  "setp.gt.u32 %p0, %r1, 1000;\n@%p0 exit;\nret;\n}\n"
                                  ".func thrice()\n{\n.reg .b32 %r<3>;\nmov.u32 %r2, 3;\nAGAIN:\n"
                                  "{ .reg .b32 temp_param_reg; call.uni twice, (); }\n"
                                  "sub.u32 %r2, %r2, 1;\n.reg .pred %p<2>;\nsetp.ne.u32 %p1, %r2, 0;\n"
                                  "@%p1 bra AGAIN;\nret;\n}\n";
    const std::string lines = "mov.u32 %r2, %tid.x; shl.b32 %r2, %r2, 2; mov.u32 %r3, dynamic; add.u32 %r3, %r3, %r2;\n"
                              "st.shared.u32 [%r3], %r0; mov.u32 %r5, 7;\ncall thrice, ();\n"
                              "ld.shared.u32 %r9, [%r3]; add.u32 %r9, %r9, %r5; cvt.u64.u32 %d9, %r9;";
    const std::vector<uint64_t> found = run(lines, {{3, 0, 0, 0}, {100, 0, 0, 0}, {400, 0, 0, 0}}, 3, "", functions);
    assert_int_equal(found[0], 31);
    assert_int_equal(found[1], 807);
    assert_int_not_equal(found[2], 3207); // it has left before it wrote that
}

static void test_deaths(void **)
{
    expect_death("ld.shared.u32 %r9, [%r20];", "shared address",
                 place); // an unwritten register is an address far away
    expect_death("mov.u32 %r20, place;\n\tld.shared.v4.u32 {%r5, %r6, %r7, %r8}, [%r20+1028];",
                 "at shared address 1028", place);
    expect_death("mov.u32 %r20, place;\n\tld.shared.v2.u32 {%r5, %r6}, [%r20+4];", "is not a multiple of 8",
                 place);
    expect_death("ld.shared.u32 %r9, [dynamic+64];", "shared address");
    expect_death("ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%d12+8];", "is not a multiple of 16");
    expect_death("trap;", "trap");
    expect_death("mov.u32 %r20, barrier;\n\tmbarrier.arrive.shared.b64 _, [%r20];", "nobody has initialised",
                 place);
    expect_death("brx.idx 7, TABLE;\nTABLE: .branchtargets A;\nA:", "indexed branch");
    expect_death("setp.eq.u32 %p1, %r12, 3;\n\t@%p1 bra OTHER;\n\tbar.sync 0;\n\tbra "
                 "OUT;\nOTHER:\n\tbar.sync 0;\nOUT:",
                 "divergent");
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads),          cmocka_unit_test(test_stores),
        cmocka_unit_test(test_dynamic_memory), cmocka_unit_test(test_atomics),
        cmocka_unit_test(test_shuffles),       cmocka_unit_test(test_votes),
        cmocka_unit_test(test_matrices),       cmocka_unit_test(test_copies),
        cmocka_unit_test(test_branches),       cmocka_unit_test(test_functions),
        cmocka_unit_test(test_deaths),
    };
    return cmocka_run_group_tests_name("PTX: threads and memory", tests, nullptr, nullptr);
}
