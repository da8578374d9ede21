# Sourced by checks that start ranks: run_ranks NP COMMAND…, with the mpirun of the MPI that `octet` was built
# with, on however few cores the test machine has.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

if ldd "$OCTET" | grep -q libmpich; then
    octet_mpi=mpich
    octet_mpirun=$(command -v mpirun.mpich || command -v mpirun || true)
    octet_mpirun_options=""
else
    octet_mpi=openmpi
    octet_mpirun=$(command -v mpirun.openmpi || command -v mpirun || true)
    octet_mpirun_options="--oversubscribe --bind-to none --mca pml ob1 --mca mpi_yield_when_idle 1"
fi

skip() {
    echo "skipped: $*"
    exit 77
}

run_ranks() {
    local count=$1
    shift
    # shellcheck disable=SC2086
    "$octet_mpirun" $octet_mpirun_options -np "$count" "$@"
}

[ -n "$octet_mpirun" ] || skip "no mpirun for the MPI that octet was built with ($octet_mpi)"
