// The example kernels, compiled and interpreted, on fresh inputs: the same bits for every architecture, under
// several schedules. Mistakes in the text of the assembly, which the compiled kernel cannot have, are seen.
//
// PTX_FOLDER (set by CMake) has a folder of PTX for each architecture.
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "settings.h"
#include "test_support.h"

extern "C" {
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
}

#include "ptx_parser.h"
#include "ptx_registry.h"
#include "sanitizers.h"

static const std::string architectures[] = {"sm_90a", "sm_100a", "sm_120a"};

// Every example in two shapes under every schedule, each launch compared.
static void run_examples(int shapes)
{
    uint64_t seed = 1;
    for (const Example &example : examples)
        for (int shape = 0; shape < shapes; shape++)
            for (const char *schedule : {"fifo", "lifo", "random"}) {
                cuda_emulation_configure(schedule, seed++, "eager");
                uint64_t before = ptx::registry_launches();
                if (!example.run(BUG_NONE, shape).good())
                    fail_msg("%s, shape %d, %s: a wrong result", example.name, shape, schedule);
                if (ptx::registry_launches() == before)
                    fail_msg("%s: no PTX was run", example.name);
            }
}

static void examples_agree(void **)
{
    for (const std::string &architecture : architectures) {
        ptx::registry_clear();
        size_t kernels = ptx::registry_load(PTX_FOLDER "/" + architecture);
        print_message("%s: %zu kernels\n", architecture.c_str(), kernels);
        ptx::registry_compare(true);
        run_examples(SHAPES);
    }
    ptx::registry_clear();
    ptx::registry_compare(false);
}

static std::string text_of(const std::string &path)
{
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    assert_true(file && !text.str().empty());
    return text.str();
}

// Runs the tensor-core example with the PTX of matrix_product changed, in a child process; the code it ends
// with.
static int run_changed(const std::string &text, std::string *said)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(nullptr);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        ptx::registry_clear();
        ptx::registry_load_text(text, "changed.ptx");
        ptx::registry_compare(true);
        for (const Example &example : examples)
            if (std::string(example.name) == "matrix_product")
                example.run(BUG_NONE, 0);
        _exit(0);
    }
    close(ends[1]);
    char part[512];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;)
        said->append(part, static_cast<size_t>(n));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Exchanges the second and third register of the first list of `instruction`'s fragment that follows its
// results.
static std::string exchange_registers(std::string text, const std::string &instruction, bool results)
{
    for (size_t at = 0; (at = text.find(instruction, at)) != std::string::npos; at++) {
        size_t open = text.find('{', at);
        if (!results)
            open = text.find('{', open + 1);
        size_t first = text.find(',', open), second = text.find(',', first + 1),
               third = text.find(',', second + 1);
        std::string a = text.substr(first + 1, second - first - 1),
                    b = text.substr(second + 1, third - second - 1);
        text.replace(first + 1, third - first - 1, b + "," + a);
    }
    return text;
}

// "{%4, %6, %5, %7}" in place of "{%4, %5, %6, %7}" in the text of an asm statement, and its like: the
// compiled kernel runs no assembly and is right, so only the comparison can see it.
static void operands_in_the_wrong_order_are_seen(void **)
{
    if (cuda_emulation::sanitizers::thread()) {
        print_message("skipped: ThreadSanitizer loses the order of fibers in a forked process\n");
        skip();
    }
    for (const std::string &architecture : architectures) {
        std::string text = text_of(PTX_FOLDER "/" + architecture + "/matrix_product.ptx"), said;
        assert_int_equal(run_changed(text, &said), 0);
        for (const std::string &changed :
             {exchange_registers(text, "mma.sync", false), exchange_registers(text, "ldmatrix.sync", true)}) {
            assert_true(changed != text);
            said.clear();
            assert_int_equal(run_changed(changed, &said), 86);
            assert_true(said.find("compiled and as PTX it gives different results") != std::string::npos);
        }
    }
}

// Kernels that are not loaded are not run in silence.
static void kernels_without_ptx_are_seen(void **)
{
    std::string said;
    assert_int_equal(run_changed(text_of(PTX_FOLDER "/sm_90a/scale_rows.ptx"), &said), 86);
    assert_true(said.find("not that of the kernel") != std::string::npos);
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples_agree),
        cmocka_unit_test(operands_in_the_wrong_order_are_seen),
        cmocka_unit_test(kernels_without_ptx_are_seen),
    };
    return cmocka_run_group_tests_name("PTX: examples", tests, nullptr, nullptr);
}
