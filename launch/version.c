// `octet --version`.
#include "launch/version.h"

#include "kernels/cpu/kernels.h"
#include "ranks/world.h"
#include "version_facts.h"

void oct_version_print(FILE *file)
{
    static const char *const sets[] = {"scalar", "scalar, avx2", "scalar, avx2, avx512"};
    char mpi[256];
    oct_world_mpi_library(mpi, sizeof mpi);
    fprintf(file, "octet %s\n", OCTET_VERSION);
    fprintf(file, "compiler      %s\n", __VERSION__);
    fprintf(file, "MPI           %s\n", mpi);
    fprintf(file, "HDF5          %s\n", OCTET_HDF5);
    fprintf(file, "UCX           %s\n", OCTET_UCX);
    fprintf(file, "hwloc         %s\n", OCTET_HWLOC);
    fprintf(file, "CUDA, NCCL    %s\n", OCTET_CUDA);
    fprintf(file, "instructions  %s (on this machine)\n", sets[oct_cpu_level()]);
}
