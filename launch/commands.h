// The subcommands of `octet`; each has a file command_<name>.c. A command returns its exit code.
#ifndef OCT_LAUNCH_COMMANDS_H
#define OCT_LAUNCH_COMMANDS_H

int oct_command_import(int argc, char **argv);
int oct_command_inspect(int argc, char **argv);
int oct_command_generate(int argc, char **argv);
int oct_command_chat(int argc, char **argv);
int oct_command_score(int argc, char **argv);
int oct_command_bench(int argc, char **argv);

#endif
