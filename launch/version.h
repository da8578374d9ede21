// What this program was built from.
#ifndef OCT_LAUNCH_VERSION_H
#define OCT_LAUNCH_VERSION_H

#include <stdio.h>

// Prints the version and build facts: compiler, MPI, HDF5, UCX, hwloc, CUDA, NCCL, instruction sets. LOCAL.
void oct_version_print(FILE *file);

#endif
