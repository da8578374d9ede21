// What the parser of PTX reads, and what it refuses: everything unknown, with file and line.
#include "ptx_checks.h"
#include "ptx_parser.h"

using namespace ptx_checks;

// The line of kernel_text() that the first of `lines` stands in.
static int first_line()
{
    std::string text = kernel_text("k", "MARK");
    int line = 1;
    for (char c : text.substr(0, text.find("MARK")))
        line += c == '\n';
    return line;
}

static void expect_refusal(const std::string &lines, const std::string &said,
                           const std::string &declarations = "")
{
    std::string why = refusal(kernel_text("k", lines, declarations));
    std::string place = "refused.ptx:" + std::to_string(first_line()) + ":";
    if (why.find(said) == std::string::npos || why.compare(0, place.size(), place) != 0)
        fail_msg("%s: '%s' at %s was expected, refused for: %s", lines.c_str(), said.c_str(), place.c_str(),
                 why.c_str());
}

static void test_unknown_instructions(void **)
{
    expect_refusal("frobnicate.u32 %r9, %r0;", "the instruction 'frobnicate.u32' is not known");
    expect_refusal("add.frob.u32 %r9, %r0, %r1;", "'add.frob.u32' with these modifiers");
    expect_refusal("ld.global.L1::keep.u32 %r9, [%d0];", "with these modifiers");
    expect_refusal("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%r0,%r1,%r2,%r3}, "
                   "{%r0,%r1,%r2,%r3}, {%r0,%r1}, {%r0,%r1,%r2,%r3};",
                   "with these modifiers");
    expect_refusal("tcgen05.alloc.cta_group::1.sync.aligned.b32 [%r0], 32;", "is not known");
    expect_refusal("activemask.b32 %r9;", "is not known");
}

static void test_wrong_operands(void **)
{
    expect_refusal("add.u32 %r9, %r0;", "2 operands");
    expect_refusal("add.u32 7, %r0, %r1;", "is not known");
    expect_refusal("add.u32 %r9, %r0, _;", "is not known");
    expect_refusal("ld.global.v4.u32 {%r0, %r1}, [%d0];", "is not known");
    expect_refusal("ld.global.u32 %r9, %d0;", "is not known");
    expect_refusal("selp.u32 %r9, !%r0, %r1, %p1;", "is not known");
    expect_refusal("mov.u32 %r9, %r40;", "%r40 is not declared"); // %r<30> has no 40
    expect_refusal("mov.u32 %r9, %frob;", "%frob is not declared");
    expect_refusal("bra NOWHERE;", "is called 'NOWHERE'");
    expect_refusal("add.u32 %r9, %r0, %r1+4;", "only in an address");
    expect_refusal("mov.u32 %r9, 1.5;", "'1.5' is not a number");
    expect_refusal("@%p20 mov.u32 %r9, 1;", "%p20 is not declared");
}

static void test_heads(void **)
{
    const std::string head = ".version 8.7\n.target sm_100a\n.address_size 64\n";
    auto refused = [&](const std::string &text, const std::string &said) {
        std::string why = refusal(head + text);
        if (why.find(said) == std::string::npos)
            fail_msg("%s: '%s' was expected, refused for: %s", text.c_str(), said.c_str(), why.c_str());
    };
    refused(".visible .func f(.param .b32 a) { ret; }", "refused.ptx:4: device functions with parameters");
    refused(".func (.param .b32 r) f() { ret; }", "refused.ptx:4: device functions with a result");
    refused(".func f() { .shared .b32 a; ret; }", "static shared memory");
    refused(".entry k() { call.uni f, (); ret; }", "no function without parameters is called 'f'");
    refused(".global .align 4 .u32 counter;", "has no value");
    refused(".entry k(.param .u32 a) .explicitcluster { ret; }", "'.explicitcluster' is not known");
    refused(".entry k() { ret;", "has no end");
    refused(".entry k() { ret; }\n.entry k() { ret; }", "loaded already");
    refused(".entry k() { mov.u32 ^; }", "no use for the character '^'");
    assert_true(refusal(".version 8.7\n.address_size 32\n").find("64 bits") != std::string::npos);
}

// Parameters lie as a C structure does, arrays at the head of a file are read by kernels, and comments are
// nothing.
static void test_contents(void **)
{
    const std::string text = "// a comment\n.version 8.7\n.target sm_120a\n.address_size 64\n"
                             ".visible .const .align 4 .u32 numbers[4] = {3, /* between */ -5, 0x10};\n"
                             ".extern .shared .align 16 .b8 dynamic[];\n"
                             ".visible .entry k(.param .u8 a, .param .align 8 .b8 b[12], .param .u64 .ptr "
                             ".align 1 c, .param .f32 d)\n"
                             ".maxntid 64, 2, 1\n.minnctapersm 2\n{\n.reg .b32 %r<3>;\n.shared .align 8 .b8 "
                             "own[40];\n.loc 1 2 3\n.pragma \"nounroll\";\n"
                             "ld.const.u32 %r0, [numbers+4];\nret;\n}\n";
    std::unique_ptr<ptx::module> made = ptx::parse_module(text, "here.ptx");
    assert_string_equal(made->target.c_str(), "sm_120a");
    assert_int_equal(made->kernels.size(), 1);
    const ptx::kernel &k = *made->kernels[0];
    assert_string_equal(k.name.c_str(), "k");
    const size_t offsets[] = {0, 8, 24, 32}, bytes[] = {1, 12, 8, 4};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(k.parameters[i].offset_bytes, offsets[i]);
        assert_int_equal(k.parameters[i].bytes, bytes[i]);
    }
    assert_int_equal(k.threads_max, 128);
    assert_int_equal(k.static_shared_bytes, 40);
    assert_int_equal(k.dynamic_shared_begin, 1024);
    assert_int_equal(k.code.size(), 2);
    int32_t numbers[4];
    memcpy(numbers, made->variables[0].begin, sizeof numbers);
    assert_true(numbers[0] == 3 && numbers[1] == -5 && numbers[2] == 16 && numbers[3] == 0);
}

// Cut anywhere, a file is refused or read, and nothing else happens.
static void test_truncation(void **)
{
    const std::string text = kernel_text(
        "k",
        "{ .reg .pred p; L: add.s32 %r9, %r0, -4; setp.lt.and.u32 p|%p1, %r9, 5, !%p2; @p bra L; }\n\t"
        "ld.shared.v2.u32 {%r5, %r6}, [words+8];",
        "\t.shared .align 16 .b8 words[64];\n");
    size_t refused = 0;
    for (size_t length = 0; length < text.size(); length++)
        try {
            ptx::parse_module(text.substr(0, length), "cut.ptx");
        } catch (const ptx::error &) {
            refused++;
        }
    assert_true(refused > text.size() / 2);
    ptx::parse_module(text, "whole.ptx");
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_instructions),
        cmocka_unit_test(test_wrong_operands),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_truncation),
    };
    return cmocka_run_group_tests_name("PTX: parser", tests, nullptr, nullptr);
}
