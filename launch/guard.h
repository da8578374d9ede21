// The guard: the parent process of a rank, which says how its rank died and leaves with the documented code.
//
// Called before MPI, threads or devices exist. The child goes on as the rank (it is killed with its guard);
// the parent passes signals on, waits, and never comes back. It prints one line where the rank died of a
// signal or left without oct_progress_goodbye(), and then exits with OCT_ERR_LOST: measured, mpirun and srun
// then return 5, where a rank that is killed itself gives 137, 143 or even 0. It also removes what a killed
// job's MPI leaves in /dev/shm.
#ifndef OCT_LAUNCH_GUARD_H
#define OCT_LAUNCH_GUARD_H

// Forks. Returns only in the rank (or, where the system refuses to fork, in the unguarded process).
void oct_guard_begin(void);

#endif
