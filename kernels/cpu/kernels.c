// The tables of the instruction sets and the choice among them.
#include "kernels/cpu/kernels.h"

#include <pthread.h>

#include "kernels/cpu/prefetch.h"
#include "kernels/cpu/scalar.h"
#include "kernels/cpu/tables.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <xmmintrin.h>
#endif

oct_activation_form oct_encoding_form(oct_encoding encoding)
{
    if (encoding == OCT_F32)
        return OCT_FORM_F32;
    return encoding == OCT_F16 || encoding == OCT_BF16 ? OCT_FORM_BF16 : OCT_FORM_INT8;
}

static oct_cpu_kernels scalar = {
    .name = "scalar",
    .rms_norm = oct_scalar_rms_norm,
    .quantize = oct_scalar_quantize,
    .round_bf16 = oct_scalar_round_bf16,
    .silu_multiply = oct_scalar_silu_multiply,
    .add = oct_scalar_add,
    .add_tree = oct_scalar_add_tree,
    .rope = oct_scalar_rope,
    .store_key_value = oct_scalar_store_key_value,
    .attention_split = oct_scalar_attention_split,
    .attention_merge = oct_scalar_attention_merge,
};
static oct_cpu_kernels avx2, avx512;
static int level;
bool oct_prefetch_second_level;

#if defined(__x86_64__)
static int find_level(void)
{
    unsigned a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    __builtin_cpu_init();
    if (!f16c || !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return 0;
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vnni");
    return wide ? 2 : 1;
}
#else
static int find_level(void)
{
    return 0;
}
#endif

static void make_tables(void)
{
    level = find_level();
#if defined(__x86_64__)
    oct_prefetch_second_level = __builtin_cpu_is("amd");
#endif
    oct_scalar_fill_dots(&scalar);
    oct_scalar_fill_dots_f32(&scalar);
    avx2 = avx512 = scalar;
    // even filling a table takes its instructions
#if OCT_HAVE_AVX2
    if (level >= 1)
        oct_avx2_fill(&avx2);
#endif
#if OCT_EMULATE_AVX512
    oct_emulated_fill(&avx512);
#elif OCT_HAVE_AVX512
    if (level >= 2)
        oct_avx512_fill(&avx512);
    if (level >= 2 && __builtin_cpu_supports("avx512bf16"))
        oct_avx512_fill_native_bf16(&avx512);
#endif
}

static void prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_tables);
}

const oct_cpu_kernels *oct_cpu_kernels_scalar(void)
{
    prepare();
    return &scalar;
}

const oct_cpu_kernels *oct_cpu_kernels_avx2(void)
{
    prepare();
    return OCT_HAVE_AVX2 && level >= 1 ? &avx2 : NULL;
}

const oct_cpu_kernels *oct_cpu_kernels_avx512(void)
{
    prepare();
    return OCT_EMULATE_AVX512 || (OCT_HAVE_AVX512 && level >= 2) ? &avx512 : NULL;
}

int oct_cpu_level(void)
{
    prepare();
    const int most = OCT_HAVE_AVX512 ? 2 : OCT_HAVE_AVX2 ? 1 : 0;
    if (OCT_EMULATE_AVX512)
        return 2;
    return level < most ? level : most;
}

void oct_cpu_enter_thread(void)
{
#if defined(__x86_64__)
    // exceptions masked, round to nearest, FTZ (bit 15), DAZ (bit 6)
    _mm_setcsr(0x1f80 | 1 << 15 | 1 << 6);
#elif defined(__aarch64__)
    uint64_t fpcr = UINT64_C(1) << 24; // FZ; rounding mode 0 is to nearest
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr));
#else
#error "how does this processor flush denormals to zero?"
#endif
}
