// Launch checks with made-up launchers, memory and shared memory; the messages name the mend.
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/launch_check.h"

static const char open_mpi[] = "Open MPI v4.1.4", mpich[] = "MPICH Version: 4.0.2";

static void clear(void)
{
    static const char *const names[] = {
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "SLURM_STEP_NUM_TASKS",
        "SLURM_PROCID",
        "PMI_SIZE",
        "PMI_RANK",
        "PMI_FD",
        "PMI_PORT",
        "MPI_LOCALNRANKS",
        "PMIX_NAMESPACE",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
    oct_failure_clear();
}

static void nobody_launched(void **state)
{
    (void)state;
    clear();
    oct_launch launch = oct_launch_read();
    assert_int_equal(launch.size, 1);
    assert_int_equal(launch.rank, 0);
    assert_int_equal(oct_launch_check_start(&launch, open_mpi), OCT_OK);
    assert_int_equal(oct_launch_check_size(&launch, 1, open_mpi), OCT_OK);
    setenv("SLURM_PROCID", "0", 1); // in a batch script: no step of its own
    launch = oct_launch_read();
    assert_int_equal(launch.size, 1);
}

static void srun_without_pmix(void **state)
{
    (void)state;
    clear();
    setenv("SLURM_STEP_NUM_TASKS", "8", 1);
    setenv("SLURM_PROCID", "3", 1);
    oct_launch launch = oct_launch_read();
    assert_int_equal(launch.size, 8);
    assert_int_equal(launch.rank, 3);
    assert_int_equal(oct_launch_check_start(&launch, open_mpi), OCT_ERR_MACHINE);
    assert_non_null(strstr(oct_failure_text(), "srun --mpi=pmix"));
    assert_non_null(strstr(oct_failure_text(), "8 processes"));
    setenv("PMIX_NAMESPACE", "slurm.pmix.9.0", 1);
    launch = oct_launch_read();
    oct_failure_clear();
    assert_int_equal(oct_launch_check_start(&launch, open_mpi), OCT_OK);
    assert_int_equal(oct_launch_check_size(&launch, 8, open_mpi), OCT_OK);
    assert_int_equal(oct_launch_check_size(&launch, 1, open_mpi), OCT_ERR_MACHINE);
}

static void launcher_of_another_mpi(void **state)
{
    (void)state;
    clear();
    setenv("PMI_SIZE", "4", 1);
    setenv("PMI_RANK", "0", 1);
    setenv("PMI_FD", "6", 1);
    setenv("MPI_LOCALNRANKS", "4", 1);
    oct_launch launch = oct_launch_read();
    assert_int_equal(launch.local_size, 4);
    assert_int_equal(oct_launch_check_start(&launch, mpich), OCT_OK);
    assert_int_equal(oct_launch_check_start(&launch, open_mpi), OCT_ERR_MACHINE);
    assert_non_null(strstr(oct_failure_text(), "mpirun that belongs to that MPI"));
    clear();
    setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
    setenv("OMPI_COMM_WORLD_RANK", "2", 1);
    setenv("PMIX_NAMESPACE", "x", 1);
    launch = oct_launch_read();
    assert_int_equal(oct_launch_check_size(&launch, 1, mpich), OCT_ERR_MACHINE);
    assert_non_null(strstr(oct_failure_text(), "believes to be alone"));
}

static void mpirun_inside_a_step(void **state)
{
    (void)state;
    clear();
    setenv("SLURM_STEP_NUM_TASKS", "1", 1);
    setenv("SLURM_PROCID", "0", 1);
    setenv("OMPI_COMM_WORLD_SIZE", "4", 1);
    setenv("OMPI_COMM_WORLD_RANK", "2", 1);
    setenv("PMIX_NAMESPACE", "x", 1);
    oct_launch launch = oct_launch_read();
    assert_int_equal(launch.size, 4);
    assert_int_equal(launch.rank, 2);
    setenv("SLURM_STEP_NUM_TASKS", "2", 1); // mpiexec.hydra's proxies on two hosts
    unsetenv("OMPI_COMM_WORLD_SIZE");
    setenv("PMI_SIZE", "16", 1);
    setenv("PMI_RANK", "5", 1);
    setenv("MPI_LOCALNRANKS", "8", 1);
    launch = oct_launch_read();
    assert_int_equal(launch.size, 16);
    assert_int_equal(launch.rank, 5);
}

static void too_many_ranks(void **state)
{
    (void)state;
    clear();
    oct_launch launch = oct_launch_read();
    assert_int_equal(oct_launch_check_size(&launch, 64, open_mpi), OCT_OK);
    assert_int_equal(oct_launch_check_size(&launch, 65, open_mpi), OCT_ERR_MACHINE);
    assert_non_null(strstr(oct_failure_text(), "several jobs"));
}

static void memory_is_enough_or_not(void **state)
{
    (void)state;
    clear();
    const uint64_t gib = 1ull << 30;
    assert_int_equal(oct_launch_check_memory(2 * gib, 4, 8 * gib, "n1"), OCT_OK);
    assert_int_equal(oct_launch_check_memory(2 * gib + 1, 4, 8 * gib, "n1"), OCT_ERR_MACHINE);
    assert_non_null(strstr(oct_failure_text(), "host n1 has 8.00 GiB"));
    assert_int_equal(oct_launch_check_memory(UINT64_MAX, 2, UINT64_MAX - 1, "n1"), OCT_ERR_MACHINE);
    uint64_t left = oct_memory_available_bytes();
    assert_true(left > 1 << 20);
}

static void shared_memory_is_enough_or_not(void **state)
{
    (void)state;
    clear();
    assert_int_equal(oct_launch_check_shm(0, 1, "n1"), OCT_OK); // one process shares nothing
    assert_int_equal(oct_launch_check_shm(32u << 20, 8, "n1"), OCT_OK);
    assert_int_equal(oct_launch_check_shm((32u << 20) - 1, 8, "n1"), OCT_ERR_MACHINE);
    assert_non_null(strstr(oct_failure_text(), "--shm-size"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_launched),
        cmocka_unit_test(srun_without_pmix),
        cmocka_unit_test(launcher_of_another_mpi),
        cmocka_unit_test(mpirun_inside_a_step),
        cmocka_unit_test(too_many_ranks),
        cmocka_unit_test(memory_is_enough_or_not),
        cmocka_unit_test(shared_memory_is_enough_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
