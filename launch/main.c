// The `octet` program: finds the subcommand, puts a guard over those that decode, leaves with their code.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launch/commands.h"
#include "launch/guard.h"
#include "launch/options.h"
#include "launch/version.h"
#include "ranks/control.h"
#include "ranks/launch_check.h"
#include "runtime/progress.h"
#include "runtime/status.h"

#ifdef OCTET_FAULTS
int oct_command_rehearse(int argc, char **argv);
#endif

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv); // argv[0] is the subcommand's name
    bool needs_guard;
} command;

static const command commands[] = {
    {"import", oct_command_import, false},
    {"inspect", oct_command_inspect, false},
    {"generate", oct_command_generate, true},
    {"chat", oct_command_chat, true},
    {"score", oct_command_score, true},
    {"bench", oct_command_bench, true},
#ifdef OCTET_FAULTS
    {"rehearse", oct_command_rehearse, true},
#endif
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *to)
{
    fprintf(to, "usage: octet COMMAND [OPTION]…\n\n");
    for (int i = 0; i < COMMANDS; i++)
        if (oct_command_find(commands[i].name) >= 0) // the rehearsal of the tests has no row in the option table
            fprintf(to, "  %-10s %s\n", commands[i].name,
                    oct_command_summary((oct_command)oct_command_find(commands[i].name)));
    fprintf(to, "\nEach command has --help. Start several ranks with mpirun -np N octet … or srun.\n");
}

static int run(const command *chosen, int argc, char **argv)
{
    if (chosen->needs_guard)
        oct_guard_begin();
    int code = chosen->run(argc, argv);
    if (oct_failure_text()[0] != '\0' && code != 0 && oct_launch_read().rank == 0)
        fprintf(stderr, "octet: %s\n", oct_failure_text());
    oct_progress_goodbye(code);
    if (chosen->needs_guard)
        kill(getppid(), SIGCONT); // a guard that somebody stopped must see its rank leave
    return code;
}

// Descriptors 0, 1 and 2 must be ours, or a library opens something of its own there.
static void open_standard_descriptors(void)
{
    int descriptor;
    do
        descriptor = open("/dev/null", O_RDWR);
    while (descriptor >= 0 && descriptor <= 2);
    if (descriptor > 2)
        close(descriptor);
}

int main(int argc, char **argv)
{
    open_standard_descriptors();
    oct_control_restore_signals();
    signal(SIGUSR1, SIG_IGN); // the drain signal of batch systems: there is nothing to drain to yet
    bool speaks = oct_launch_read().rank == 0;
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "--version") == 0) {
        if (speaks && name[2] == 'v')
            oct_version_print(stdout);
        else if (speaks)
            print_help(stdout);
        return 0;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return run(&commands[i], argc - 1, argv + 1);
    if (speaks) {
        if (name[0] != '\0')
            fprintf(stderr, "octet: \"%s\" is not a command\n", name);
        print_help(stderr);
    }
    return OCT_ERR_USAGE;
}
