// Bulk copies between their start and the moment when a thread waits for the barrier that they arrive at.
#include "asynchronous_copies.h"

#include "sanitizers.h"
#include "settings.h"

namespace cuda_emulation
{
// An array, not a vector: ThreadSanitizer would see the CUDA threads race for a vector's memory.
enum { IN_FLIGHT_MAX = 4096 };
static BulkCopy in_flight[IN_FLIGHT_MAX];
static unsigned in_flight_count;

void bulk_copy_start(const BulkCopy &copy)
{
    if (in_flight_count == IN_FLIGHT_MAX)
        die("more than %d bulk copies in flight", (int)IN_FLIGHT_MAX);
    early_copy_check(copy.from, copy.bytes);
    sanitizers::release(copy.barrier);
    in_flight[in_flight_count++] = copy;
    statistics.bulk_bytes += copy.bytes;
}

bool bulk_copy_take(const uint64_t *barrier, BulkCopy *copy)
{
    unsigned first = 0;
    if (in_flight_count && settings.schedule == Schedule::RANDOM)
        first = random_below(in_flight_count);
    for (unsigned k = 0; k < in_flight_count; k++) {
        unsigned i = (first + k) % in_flight_count;
        if (in_flight[i].barrier != barrier)
            continue;
        *copy = in_flight[i];
        in_flight[i] = in_flight[--in_flight_count];
        return true;
    }
    return false;
}

void bulk_copies_check_empty()
{
    if (in_flight_count)
        die("the kernel ends with %u bulk copies in flight that no thread has waited for", in_flight_count);
}
} // namespace cuda_emulation
