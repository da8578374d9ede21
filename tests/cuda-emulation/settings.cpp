// The settings of the emulation, and its random numbers.
#include "settings.h"

#include <cstdlib>
#include <cstring>
#include <ctime>

#include "sanitizers.h"
#include "scheduler.h"

namespace cuda_emulation
{
static int64_t number_from(const char *name, int64_t otherwise, int64_t least)
{
    const char *text = getenv(name);
    if (!text)
        return otherwise;
    char *end;
    int64_t value = strtoll(text, &end, 0);
    if (end == text || *end || value < least)
        die("%s is \"%s\": expected a number, %lld or more", name, text, (long long)least);
    return value;
}

static Schedule schedule_named(const char *name)
{
    if (!strcmp(name, "fifo"))
        return Schedule::FIFO;
    if (!strcmp(name, "lifo"))
        return Schedule::LIFO;
    if (!strcmp(name, "random"))
        return Schedule::RANDOM;
    die("the schedule is \"%s\": expected fifo, lifo or random", name);
}

static bool lazy_named(const char *name)
{
    if (strcmp(name, "eager") && strcmp(name, "lazy"))
        die("the streams are \"%s\": expected eager or lazy", name);
    return *name == 'l';
}

static const char *text_from(const char *name, const char *otherwise)
{
    const char *text = getenv(name);
    return text ? text : otherwise;
}

// Of the CUDA_EMULATION_DEVICES devices of the machine (default 1; 0 is no driver) those that CUDA_VISIBLE_DEVICES
// names, up to the first that there is not ("CUDA C++ Programming Guide", environment variables).
static std::vector<int> visible_devices()
{
    const int machine = (int)number_from("CUDA_EMULATION_DEVICES", 1, 0);
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    std::vector<int> devices;
    if (!text) {
        for (int device = 0; device < machine; device++)
            devices.push_back(device);
        return devices;
    }
    for (const char *at = text; *at;) {
        char *end;
        const long device = strtol(at, &end, 10);
        if (end == at || (*end && *end != ',') || device < 0 || device >= machine)
            break;
        devices.push_back((int)device);
        at = *end ? end + 1 : end;
    }
    return devices;
}

// The state of xorshift must not be 0, and neighbouring seeds should begin far apart.
static uint64_t state_of_seed(uint64_t seed)
{
    return seed * 0x9E3779B97F4A7C15ull | 1;
}

Settings::Settings()
{
    schedule = schedule_named(text_from("CUDA_EMULATION_SCHEDULE", "fifo"));
    lazy_streams = lazy_named(text_from("CUDA_EMULATION_STREAMS", "eager"));
    random_state = state_of_seed((uint64_t)number_from("CUDA_EMULATION_SEED", 1, 1));
    resident_blocks = (int)number_from("CUDA_EMULATION_RESIDENT", 1, 1);
    processors = (int)number_from("CUDA_EMULATION_PROCESSORS", 4, 1);
    devices = visible_devices();
    shared_bytes = (size_t)number_from("CUDA_EMULATION_SHARED_KIB", 227, 48) << 10;
    memory_bytes = (size_t)number_from("CUDA_EMULATION_MEMORY_MIB", 16384, 1) << 20;
    failing_allocation = number_from("CUDA_EMULATION_FAILING_MALLOC", 0, 0);
    failing_graph = number_from("CUDA_EMULATION_FAILING_GRAPH", 0, 0);
    bool sanitized = sanitizers::address() || sanitizers::thread();
    stack_bytes =
        (size_t)number_from("CUDA_EMULATION_STACK_BYTES", sanitized ? 262144 : 65536, 16384) & ~(size_t)4095;
    spin_ms = number_from("CUDA_EMULATION_SPIN_MS", 20000, 1);
}

Settings settings;

// Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (2003).
unsigned random_below(unsigned n)
{
    uint64_t &state = settings.random_state;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)((state >> 33) % n);
}

int64_t now_ns()
{
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}
} // namespace cuda_emulation

extern "C" void cuda_emulation_configure(const char *schedule, uint64_t seed, const char *streams)
{
    using namespace cuda_emulation;
    if (schedule)
        settings.schedule = schedule_named(schedule);
    if (seed)
        settings.random_state = state_of_seed(seed);
    if (streams)
        settings.lazy_streams = lazy_named(streams);
}
