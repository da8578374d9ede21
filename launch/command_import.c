// `octet import`: a checkpoint from a GGUF file, or with random weights in a named shape.
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/writer.h"
#include "launch/commands.h"
#include "launch/files.h"
#include "launch/options.h"
#include "launch/rank_zero.h"
#include "launch/synthetic.h"
#include "ranks/launch_check.h"

static void show_progress(void *context, uint64_t bytes, uint64_t total)
{
    (void)context;
    fprintf(stderr, "\rimporting %3.0f %% of %.2f GB%s", 100.0 * (double)bytes / (double)total,
            (double)total * 1e-9, bytes == total ? "\n" : "");
}

static oct_status open_source(const oct_options *options, oct_source *source)
{
    if (options->synthetic)
        return oct_synthetic_open(options, source);
    const oct_status status = oct_files_check(options, NULL);
    return status != OCT_OK ? status : oct_source_open_gguf(source, options->operand);
}

static oct_status import(void *context)
{
    const oct_options *options = context;
    oct_source source = {0};
    oct_write_report report;
    oct_write_options write = {.encoding = oct_options_encoding(options), .threads = oct_file_threads()};
    if (isatty(STDERR_FILENO))
        write.progress = show_progress;
    oct_status status = open_source(options, &source);
    if (!status)
        status = oct_checkpoint_write(&source, options->output, &write, &report);
    oct_source_close(&source);
    if (!status)
        oct_warn("wrote %s: %.1f MB, %.2f bits a weight, in %.2f s", options->output,
                 (double)report.file_bytes * 1e-6, 8.0 * (double)report.tensor_bytes / (double)report.weights,
                 report.seconds);
    return status;
}

static void print_help(void)
{
    oct_options_help(OCT_COMMAND_IMPORT, stdout);
    printf("\nShapes of --synthetic:\n");
    const char *const *shapes = oct_synthetic_shapes();
    for (int i = 0; shapes[i]; i++)
        printf("  %-16s %s\n", shapes[i], oct_synthetic_summary(i));
}

int oct_command_import(int argc, char **argv)
{
    oct_options options;
    oct_status status = oct_options_parse(&options, OCT_COMMAND_IMPORT, argc, argv);
    if (status)
        return oct_rank_zero_leave(status);
    if (options.help) {
        if (oct_launch_read().rank == 0)
            print_help();
        return OCT_OK;
    }
    if (options.verbose)
        oct_log_configure(OCT_VERBOSE);
    return oct_rank_zero_run(import, &options);
}
