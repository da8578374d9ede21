# shellcheck shell=bash
# Sourced by checks that start ranks: run_ranks NP COMMAND…, with the mpirun of the MPI that `octet` was built
# with, on however few cores the test machine has.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# For builds with the address sanitizer: what MPI itself keeps is not our leak.
OCTET_SOURCE=${OCTET_SOURCE:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
octet_sanitizers=$(cd "$(dirname "${BASH_SOURCE[0]}")/../sanitizers" && pwd)
export LSAN_OPTIONS="suppressions=$octet_sanitizers/leak.txt:print_suppressions=0${LSAN_OPTIONS:+:$LSAN_OPTIONS}"
export ASAN_OPTIONS="fast_unwind_on_malloc=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}"

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

# gcc links it as a library, clang puts it into the program.
if ldd "$OCTET" | grep -q libtsan || grep -q __tsan_init "$OCTET"; then
    skip "MPI itself is full of reports of the thread sanitizer; the unit tests run under it"
fi
[ -n "$octet_mpirun" ] || skip "no mpirun for the MPI that octet was built with ($octet_mpi)"

# can_run_hosts: whether ranks can be started as if on several hosts (Open MPI, root for host names).
can_run_hosts() {
    [ "$octet_mpi" = openmpi ] && unshare --uts true 2>/dev/null
}

# run_hosts HOST:COUNT,HOST:COUNT NP COMMAND…: ranks on hosts that are only names; between them MPI uses TCP.
run_hosts() {
    local hosts=$1 count=$2
    shift 2
    # shellcheck disable=SC2086
    "$octet_mpirun" $octet_mpirun_options --mca plm_rsh_agent "$OCTET_SOURCE/tests/integration/uts-agent" \
        --mca plm_rsh_no_tree_spawn 1 --mca btl tcp,self,vader --host "$hosts" -np "$count" "$@"
}
