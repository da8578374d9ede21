// Finds the PTX of a launched kernel and lays out its parameters.
#include "ptx_registry.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>

#include "ptx_comparison.h"
#include "ptx_parser.h"
#include "ptx_thread.h"
#include "ptx_tokens.h"

namespace ptx
{

namespace
{

struct loaded_kernel {
    std::shared_ptr<module> owner;
    const kernel *program;
};
std::map<std::string, loaded_kernel> kernels;
uint64_t launches;
bool comparing;

size_t add(std::shared_ptr<module> made)
{
    for (const std::unique_ptr<kernel> &k : made->kernels)
        if (!kernels.emplace(k->name, loaded_kernel{made, k.get()}).second)
            throw error(made->path + ": the kernel " + k->name + " is loaded already");
    return made->kernels.size();
}

// Once, before the first launch.
void load_environment()
{
    static bool done;
    const char *list = getenv("CUDA_EMULATION_PTX");
    if (done || !list)
        return;
    done = true;
    const char *compare = getenv("CUDA_EMULATION_PTX_COMPARE");
    registry_compare(compare && strcmp(compare, "1") == 0);
    try {
        for (const std::string &path : split_text(list, ','))
            registry_load(path);
    } catch (const error &e) {
        cuda_emulation::die("CUDA_EMULATION_PTX: %s", e.what());
    }
}

std::string name_of(const void *function)
{
    Dl_info found;
    if (!dladdr(const_cast<void *>(function), &found) || !found.dli_sname || found.dli_saddr != function)
        cuda_emulation::die(
            "a launched kernel has no name at run time: give it external linkage, and link the "
            "executable with exported symbols (ENABLE_EXPORTS)");
    return found.dli_sname;
}

void check_threads(const kernel &program)
{
    size_t threads = static_cast<size_t>(blockDim.x) * blockDim.y * blockDim.z;
    if (program.threads_max && threads > program.threads_max)
        cuda_emulation::die("%s: launched with %zu threads a block, bounded to %zu (__launch_bounds__)",
                            program.name.c_str(), threads, program.threads_max);
}

} // namespace

size_t registry_load(const std::string &path)
{
    if (!std::filesystem::is_directory(path))
        return add(parse_file(path));
    std::vector<std::string> files;
    for (const std::filesystem::directory_entry &entry : std::filesystem::directory_iterator(path))
        if (entry.path().extension() == ".ptx")
            files.push_back(entry.path());
    if (files.empty())
        throw error(path + ": no .ptx is in this folder; the build makes them (octet_ptx in CMake)");
    std::sort(files.begin(), files.end());
    size_t count = 0;
    for (const std::string &file : files)
        count += add(parse_file(file));
    return count;
}

size_t registry_load_text(const std::string &source, const std::string &path)
{
    return add(parse_module(source, path));
}

void registry_compare(bool compare)
{
    comparing = compare;
}

void registry_clear()
{
    kernels.clear();
}

std::vector<std::string> registry_kernels()
{
    std::vector<std::string> names;
    for (const auto &entry : kernels)
        names.push_back(entry.first);
    return names;
}

uint64_t registry_launches()
{
    return launches;
}

std::function<void()> registry_body(const std::string &name, void **arguments, const size_t *bytes,
                                    size_t count)
{
    auto found = kernels.find(name);
    if (found == kernels.end())
        cuda_emulation::die("PTX is loaded, but not that of the kernel %s: load its file too", name.c_str());
    const kernel *program = found->second.program;
    if (program->parameters.size() != count)
        cuda_emulation::die("%s has %zu parameters in PTX and is launched with %zu", name.c_str(),
                            program->parameters.size(), count);
    std::vector<unsigned char> values(program->parameter_bytes);
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != program->parameters[i].bytes)
            cuda_emulation::die("%s: parameter %zu has %zu bytes in PTX and is launched with %zu",
                                name.c_str(), i, program->parameters[i].bytes, bytes[i]);
        memcpy(values.data() + program->parameters[i].offset_bytes, arguments[i], bytes[i]);
    }
    launches++;
    return [owner = found->second.owner, program, values]() mutable {
        check_threads(*program);
        run_kernel(*program, values.data());
    };
}

} // namespace ptx

// Called for every launch where the interpreter is linked (scheduler.h).
void cuda_emulation::ptx_body(const void *function, void **arguments, const size_t *bytes, size_t count,
                              std::function<void()> *body)
{
    ptx::load_environment();
    if (ptx::kernels.empty())
        return;
    std::string name = ptx::name_of(function);
    std::function<void()> interpreted = ptx::registry_body(name, arguments, bytes, count);
    *body = ptx::comparing ? ptx::compared_body{*body, interpreted, name} : interpreted;
}
