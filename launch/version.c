// `octet --version`.
#include "launch/version.h"

#include "kernels/backend.h"
#include "ranks/world.h"
#include "version_facts.h"

// All that the processor has, the slowest first.
static void print_instructions(const oct_backend_kind *cpu, FILE *file)
{
    oct_backend_offer offer;
    cpu->offer(0, 1, false, &offer);
    for (int32_t i = 0; i <= offer.instructions; i++)
        fprintf(file, i == 0 ? "%s" : ", %s", cpu->instructions_name(i));
}

void oct_version_print(FILE *file)
{
    char mpi[256];
    oct_world_mpi_library(mpi, sizeof mpi);
    fprintf(file, "octet %s\n", OCTET_VERSION);
    fprintf(file, "compiler      %s\n", __VERSION__);
    fprintf(file, "MPI           %s\n", mpi);
    fprintf(file, "HDF5          %s\n", OCTET_HDF5);
    fprintf(file, "UCX           %s\n", OCTET_UCX);
    fprintf(file, "hwloc         %s\n", OCTET_HWLOC);
    fprintf(file, "CUDA, NCCL    %s\n", OCTET_CUDA);
    fprintf(file, "instructions  ");
    print_instructions(&oct_cpu_backend_kind, file);
    fprintf(file, " (on this machine)\nbackends      ");
    for (int32_t i = 0; oct_backend_kind_at(i) != NULL; i++)
        fprintf(file, i == 0 ? "%s" : ", %s", oct_backend_kind_at(i)->name);
    fprintf(file, "\n");
}
