// See nccl_elements.h.
#include "nccl_elements.h"

#include <cstdlib>
#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "scheduler.h"

namespace cuda_emulation
{
size_t nccl_element_bytes(ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8:
        return 1;
    case ncclFloat16:
    case ncclBfloat16:
        return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32:
        return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return 8;
    default:
        die("NCCL's data type %d has no emulation", (int)type);
    }
}

static double load(const void *array, size_t i, ncclDataType_t type)
{
    switch (type) {
    case ncclInt8:
        return ((const int8_t *)array)[i];
    case ncclUint8:
        return ((const uint8_t *)array)[i];
    case ncclFloat16:
        return __half2float(((const __half *)array)[i]);
    case ncclBfloat16:
        return __bfloat162float(((const __nv_bfloat16 *)array)[i]);
    case ncclInt32:
        return ((const int32_t *)array)[i];
    case ncclUint32:
        return ((const uint32_t *)array)[i];
    case ncclFloat32:
        return ((const float *)array)[i];
    case ncclFloat64:
        return ((const double *)array)[i];
    default:
        die("NCCL's data type %d cannot be reduced in the emulation", (int)type);
    }
}

static void store(void *array, size_t i, ncclDataType_t type, double value)
{
    switch (type) {
    case ncclInt8:
        ((int8_t *)array)[i] = (int8_t)value;
        return;
    case ncclUint8:
        ((uint8_t *)array)[i] = (uint8_t)value;
        return;
    case ncclFloat16:
        ((__half *)array)[i] = __float2half((float)value);
        return;
    case ncclBfloat16:
        ((__nv_bfloat16 *)array)[i] = __float2bfloat16((float)value);
        return;
    case ncclInt32:
        ((int32_t *)array)[i] = (int32_t)value;
        return;
    case ncclUint32:
        ((uint32_t *)array)[i] = (uint32_t)value;
        return;
    case ncclFloat32:
        ((float *)array)[i] = (float)value;
        return;
    case ncclFloat64:
        ((double *)array)[i] = value;
        return;
    default:
        die("NCCL's data type %d cannot be reduced in the emulation", (int)type);
    }
}

static double combined(double a, double b, ncclRedOp_t operation)
{
    switch (operation) {
    case ncclProd:
        return a * b;
    case ncclMax:
        return a > b ? a : b;
    case ncclMin:
        return a < b ? a : b;
    case ncclSum:
    case ncclAvg:
        return a + b;
    default:
        die("NCCL's operation %d has no emulation", (int)operation);
    }
}

// What a step of the reduction keeps of its result.
static double rounded(double value, ncclDataType_t type, bool ring)
{
    if (type == ncclFloat64 || type == ncclInt32 || type == ncclUint32)
        return value;
    if (!ring)
        return (float)value;
    double element; // room for any type
    store(&element, 0, type, value);
    return load(&element, 0, type);
}

static bool sums_like_ring()
{
    const char *text = getenv("CUDA_EMULATION_NCCL_SUM");
    if (text && strcmp(text, "fp32") && strcmp(text, "ring"))
        die("CUDA_EMULATION_NCCL_SUM is \"%s\": expected fp32 or ring", text);
    return text && *text == 'r';
}

void nccl_reduce_elements(void *result, const void *all, size_t count, int ranks, ncclDataType_t type,
                          ncclRedOp_t operation)
{
    static const bool ring = sums_like_ring();
    for (size_t i = 0; i < count; i++) {
        size_t first = ring ? i * (size_t)ranks / count : 0;
        double value = 0;
        for (size_t k = 0; k < (size_t)ranks; k++) {
            double element = load(all, (first + k) % (size_t)ranks * count + i, type);
            value = k ? rounded(combined(value, element, operation), type, ring) : element;
        }
        store(result, i, type, operation == ncclAvg ? value / ranks : value);
    }
}
} // namespace cuda_emulation
