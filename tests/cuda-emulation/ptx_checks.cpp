// Runs lines of PTX as a kernel of the emulation.
#include "ptx_checks.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "cuda_emulation.h"

namespace ptx_checks
{

std::string kernel_text(const std::string &name, const std::string &lines, const std::string &declarations,
                        const std::string &functions)
{
    return ".version 8.7\n.target sm_90a\n.address_size 64\n"
           ".extern .shared .align 16 .b8 dynamic[];\n" +
           functions + ".visible .entry " + name +
           "(.param .u64 in, .param .u64 out, .param .u32 n)\n{\n"
           "\t.reg .pred %p<10>;\n\t.reg .b16 %h<20>;\n\t.reg .b32 %r<30>;\n\t.reg .b64 %d<30>;\n" +
           declarations +
           "\tmov.u32 %r10, %ctaid.x;\n\tmov.u32 %r11, %ntid.x;\n\tmov.u32 %r12, %tid.x;\n"
           "\tmad.lo.s32 %r13, %r10, %r11, %r12;\n\tld.param.u32 %r14, [n];\n"
           "\tsetp.ge.u32 %p0, %r13, %r14;\n\t@%p0 bra END;\n"
           "\tld.param.u64 %d10, [in];\n\tmul.wide.u32 %d11, %r13, 32;\n\tadd.s64 %d12, %d10, %d11;\n"
           "\tld.global.v2.u64 {%d0, %d1}, [%d12];\n\tld.global.v2.u64 {%d2, %d3}, [%d12+16];\n"
           "\tcvt.u32.u64 %r0, %d0;\n\tcvt.u32.u64 %r1, %d1;\n\tcvt.u32.u64 %r2, %d2;\n\tcvt.u32.u64 %r3, "
           "%d3;\n"
           "\tcvt.u16.u64 %h0, %d0;\n\tcvt.u16.u64 %h1, %d1;\n\tcvt.u16.u64 %h2, %d2;\n\tcvt.u16.u64 %h3, "
           "%d3;\n"
           "\t" +
           lines +
           "\n"
           "\tld.param.u64 %d10, [out];\n\tmul.wide.u32 %d11, %r13, 8;\n\tadd.s64 %d12, %d10, %d11;\n"
           "\tst.global.u64 [%d12], %d9;\nEND:\n\tret;\n}\n";
}

std::vector<uint64_t> run(const std::string &lines, const inputs &in, unsigned block,
                          const std::string &declarations, const std::string &functions)
{
    ptx::registry_clear();
    ptx::registry_load_text(kernel_text("lines", lines, declarations, functions), "lines.ptx");
    size_t in_bytes = in.size() * sizeof in[0], out_bytes = in.size() * sizeof(uint64_t);
    void *from, *to;
    if (cudaMalloc(&from, in_bytes) || cudaMalloc(&to, out_bytes))
        fail_msg("no memory");
    memcpy(from, in.data(), in_bytes);
    uint32_t n = static_cast<uint32_t>(in.size());
    void *arguments[] = {&from, &to, &n};
    const size_t bytes[] = {8, 8, 4};
    cudaLaunchConfig_t configuration = {};
    configuration.gridDim = dim3((n + block - 1) / block);
    configuration.blockDim = dim3(block);
    configuration.dynamicSmemBytes = 64;
    std::function<void()> body = ptx::registry_body("lines", arguments, bytes, 3);
    if (cuda_emulation::submit_kernel(&configuration, nullptr, body) || cudaDeviceSynchronize())
        fail_msg("the launch failed");
    std::vector<uint64_t> out(in.size());
    memcpy(out.data(), to, out_bytes);
    cudaFree(from);
    cudaFree(to);
    return out;
}

std::string run_to_death(const std::string &lines, const inputs &in, const std::string &declarations)
{
    int ends[2];
    if (pipe(ends))
        fail_msg("pipe");
    fflush(nullptr);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        run(lines, in, 32, declarations);
        _exit(0);
    }
    close(ends[1]);
    std::string said;
    char part[512];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;)
        said.append(part, static_cast<size_t>(n));
    close(ends[0]);
    int status;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 86)
        fail_msg("%s: was expected to end with code 86, status %#x; it said:\n%s", lines.c_str(), status,
                 said.c_str());
    return said;
}

std::string refusal(const std::string &text)
{
    ptx::registry_clear();
    try {
        ptx::registry_load_text(text, "refused.ptx");
    } catch (const ptx::error &e) {
        return e.what();
    }
    fail_msg("this was not refused:\n%s", text.c_str());
    return "";
}

static uint64_t first_seed()
{
    const char *given = getenv("OCT_TEST_SEED");
    uint64_t seed =
        given ? strtoull(given, nullptr, 0)
              : static_cast<uint64_t>(time(nullptr)) * 2654435761u ^ static_cast<uint64_t>(getpid());
    print_message("OCT_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
    return seed;
}

// splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
uint64_t random_word()
{
    static uint64_t state = first_seed();
    uint64_t z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

inputs mixed_inputs(size_t n, const std::vector<uint64_t> &special)
{
    inputs made(n);
    for (auto &in : made)
        for (uint64_t &word : in) {
            word = random_word();
            if (random_word() % 3 == 0)
                word = special[random_word() % special.size()] +
                       (random_word() % 4 == 0 ? random_word() % 3 - 1 : 0);
        }
    return made;
}

std::vector<uint64_t> special_floats()
{
    std::vector<uint64_t> bits;
    for (float v : {0.0f,     1.0f,        0.5f,      1.5f,      2.5f,
                    0x1p-24f, 0x1p-126f,   0x1p-127f, 0x1p-149f, 0x1.fffffep127f,
                    0x1p31f,  0x1p32f,     0x1p63f,   0x1p64f,   0x1.fffffep30f,
                    127.5f,   128.5f,      255.5f,    65504.0f,  65520.0f,
                    3.0f,     0x1.0101p0f, INFINITY,  NAN})
        for (uint32_t sign : {0u, 0x80000000u})
            bits.push_back(bits_of(v) | sign);
    return bits;
}

std::vector<uint64_t> special_doubles()
{
    std::vector<uint64_t> bits;
    for (double v : {0.0, 1.0, 0.5, 1.5, 2.5, 0x1p-1022, 0x1p-1074, 0x1.fffffffffffffp1023, 0x1p31, 0x1p32,
                     0x1p63, 0x1p64, 0x1.fffffep127, 0x1.ffffffp127, 0x1p-150, 0x1.000001p0,
                     static_cast<double>(INFINITY), static_cast<double>(NAN)})
        for (uint64_t sign : {0ull, 1ull << 63})
            bits.push_back(bits_of(v) | sign);
    return bits;
}

std::vector<uint64_t> special_integers()
{
    std::vector<uint64_t> bits = {0, 1, 2, ~0ull, 31, 32, 33, 63, 64, 0xff, 0x100};
    for (int width : {7, 8, 15, 16, 31, 32, 63})
        bits.push_back(1ull << width);
    bits.push_back(0x7fffffff7fffffffull);
    bits.push_back(0x8000000080000000ull);
    return bits;
}

void fail_case(const std::string &lines, const std::array<uint64_t, 4> &in, uint64_t found, uint64_t expected)
{
    fail_msg("%s\n    with %#llx, %#llx, %#llx, %#llx gives %#llx, expected %#llx", lines.c_str(),
             static_cast<unsigned long long>(in[0]), static_cast<unsigned long long>(in[1]),
             static_cast<unsigned long long>(in[2]), static_cast<unsigned long long>(in[3]),
             static_cast<unsigned long long>(found), static_cast<unsigned long long>(expected));
    abort();
}

} // namespace ptx_checks
