// `octet inspect`: what a checkpoint holds, and whether it is whole.
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoints/checkpoint.h"
#include "launch/commands.h"
#include "launch/options.h"
#include "launch/rank_zero.h"
#include "ranks/launch_check.h"

// Sums over the matrices of one encoding.
typedef struct share {
    int tensors;
    uint64_t bytes, weights;
} share;

static uint64_t tensor_bytes(const oct_tensor *tensor)
{
    return tensor->granule_bytes[tensor->spec.partition.granules];
}

static uint64_t tensor_weights(const oct_tensor *tensor)
{
    return (uint64_t)tensor->spec.rows * (uint64_t)tensor->spec.columns;
}

static double bits_per_weight(uint64_t bytes, uint64_t weights)
{
    return weights ? 8.0 * (double)bytes / (double)weights : 0;
}

static void add_up(const oct_checkpoint *checkpoint, share shares[OCT_ENCODING_COUNT], share *all)
{
    int32_t count;
    const oct_tensor *tensors = oct_checkpoint_matrices(checkpoint, &count);
    for (int32_t i = 0; i < count; i++) {
        share *of[] = {&shares[tensors[i].encoding], all};
        for (int j = 0; j < 2; j++) {
            of[j]->tensors++;
            of[j]->bytes += tensor_bytes(&tensors[i]);
            of[j]->weights += tensor_weights(&tensors[i]);
        }
    }
}

static void print_model(const oct_checkpoint *checkpoint)
{
    const oct_model *m = oct_checkpoint_model(checkpoint);
    const oct_vocabulary *v = oct_checkpoint_vocabulary(checkpoint);
    printf("%s\n", oct_checkpoint_path(checkpoint));
    printf("  model       %s (%s)\n", m->name[0] ? m->name : "unnamed", m->family);
    printf("  shape       %d layers, hidden %d, %d query and %d key-value heads of %d, FFN %d%s%s%s\n",
           m->layers, m->hidden, m->heads, m->kv_heads, m->head_dim, m->ffn, m->tied ? ", tied head" : "",
           m->qkv_bias ? ", QKV biases" : "", m->qk_norm ? ", QK norms" : "");
    printf("  positions   context %d, RoPE theta %g on %d dimensions, %s\n", m->context,
           (double)m->rope_theta, m->rope_dims, m->rope_convention == OCT_ROPE_PAIRS ? "pairs" : "halves");
    printf("  vocabulary  %d tokens, kind %s%s%s, %d merges, %s chat template\n", m->vocabulary, v->kind,
           v->pretokenizer[0] ? " " : "", v->pretokenizer, v->merges.count,
           v->chat_template[0] ? "with a" : "no");
    printf("  provenance  %s\n\n", oct_checkpoint_provenance(checkpoint));
}

static void print_tensors(const oct_checkpoint *checkpoint)
{
    static const char *const splits[] = {"", "rows", "columns"};
    int32_t count;
    const oct_tensor *tensors = oct_checkpoint_matrices(checkpoint, &count);
    printf("%-20s %16s %-8s %8s  %-8s %-8s %13s %6s\n", "matrix", "rows × columns", "split", "granules",
           "encoding", "source", "bytes", "bits");
    for (int32_t i = 0; i < count; i++) {
        const oct_tensor *t = &tensors[i];
        char shape[40];
        snprintf(shape, sizeof shape, "%" PRId64 " × %" PRId64, t->spec.rows, t->spec.columns);
        // × is two bytes in one column
        printf("%-20s %16s %-8s %8d  %-8s %-8s %13" PRIu64 " %6.3f\n", t->spec.name, shape,
               splits[t->spec.split], t->spec.partition.granules, oct_encoding_describe(t->encoding)->name,
               t->source, tensor_bytes(t), bits_per_weight(tensor_bytes(t), tensor_weights(t)));
    }
}

static void print_totals(const oct_checkpoint *checkpoint)
{
    share shares[OCT_ENCODING_COUNT] = {0}, all = {0};
    add_up(checkpoint, shares, &all);
    printf("\n");
    for (int e = 0; e < OCT_ENCODING_COUNT; e++)
        if (shares[e].tensors)
            printf("%-8s %5d matrices %15" PRIu64 " bytes %15" PRIu64 " weights, %.3f bits each\n",
                   oct_encoding_describe((oct_encoding)e)->name, shares[e].tensors, shares[e].bytes,
                   shares[e].weights, bits_per_weight(shares[e].bytes, shares[e].weights));
    printf("all      %5d matrices %15" PRIu64 " bytes %15" PRIu64 " weights, %.3f bits each; file %" PRIu64
           " bytes\n",
           all.tensors, all.bytes, all.weights, bits_per_weight(all.bytes, all.weights),
           oct_checkpoint_file_bytes(checkpoint));
}

static json_t *tensor_json(const oct_tensor *t)
{
    static const char *const splits[] = {"vector", "rows", "columns"};
    return json_pack("{s:s, s:I, s:I, s:s, s:i, s:s, s:s, s:I, s:I, s:f}", "name", t->spec.name, "rows",
                     (json_int_t)t->spec.rows, "columns", (json_int_t)t->spec.columns, "split",
                     splits[t->spec.split], "granules", (int)t->spec.partition.granules, "encoding",
                     oct_encoding_describe(t->encoding)->name, "source", t->source, "file_offset",
                     (json_int_t)t->file_offset, "bytes", (json_int_t)tensor_bytes(t), "bits_per_weight",
                     bits_per_weight(tensor_bytes(t), tensor_weights(t)));
}

static void print_json(const oct_checkpoint *checkpoint, const oct_load_report *verified)
{
    share shares[OCT_ENCODING_COUNT] = {0}, all = {0};
    add_up(checkpoint, shares, &all);
    char *model = oct_model_to_json(oct_checkpoint_model(checkpoint));
    json_t *list = json_array();
    int32_t count;
    const oct_tensor *tensors = oct_checkpoint_matrices(checkpoint, &count);
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(list, tensor_json(&tensors[i]));
    const oct_vocabulary *v = oct_checkpoint_vocabulary(checkpoint);
    json_t *root =
        json_pack("{s:s, s:I, s:o, s:o, s:{s:s, s:s, s:i, s:i, s:b}, s:I, s:I, s:f, s:o}", "path",
                  oct_checkpoint_path(checkpoint), "file_bytes",
                  (json_int_t)oct_checkpoint_file_bytes(checkpoint), "model", json_loads(model, 0, NULL),
                  "provenance", json_loads(oct_checkpoint_provenance(checkpoint), 0, NULL), "vocabulary",
                  "kind", v->kind, "pretokenizer", v->pretokenizer, "tokens", (int)v->tokens.count, "merges",
                  (int)v->merges.count, "chat_template", v->chat_template[0] != '\0', "matrix_bytes",
                  (json_int_t)all.bytes, "weights", (json_int_t)all.weights, "bits_per_weight",
                  bits_per_weight(all.bytes, all.weights), "matrices", list);
    if (verified)
        json_object_set_new(root, "verified",
                            json_pack("{s:I, s:f, s:f}", "load_bytes", (json_int_t)verified->bytes, "load_s",
                                      verified->seconds, "load_gb_per_s",
                                      (double)verified->bytes * 1e-9 / verified->seconds));
    char *text = json_dumps(root, JSON_INDENT(1));
    printf("%s\n", text);
    free(text);
    free(model);
    json_decref(root);
}

static oct_status inspect(void *context)
{
    const oct_options *options = context;
    oct_checkpoint *checkpoint;
    oct_load_report report;
    oct_status status = oct_checkpoint_open(&checkpoint, options->operand, MPI_COMM_NULL);
    if (status)
        return status;
    if (options->verify)
        status = oct_checkpoint_verify(checkpoint, oct_file_threads(), &report);
    if (!status && options->json) {
        print_json(checkpoint, options->verify ? &report : NULL);
    } else if (!status) {
        print_model(checkpoint);
        print_tensors(checkpoint);
        print_totals(checkpoint);
        if (options->verify)
            printf("verified: every checksum matches, %.1f MB at %.2f GB/s\n", (double)report.bytes * 1e-6,
                   (double)report.bytes * 1e-9 / report.seconds);
    }
    oct_checkpoint_close(checkpoint);
    return status;
}

int oct_command_inspect(int argc, char **argv)
{
    oct_options options;
    oct_status status = oct_options_parse(&options, OCT_COMMAND_INSPECT, argc, argv);
    if (status)
        return oct_rank_zero_leave(status);
    if (options.help) {
        if (oct_launch_read().rank == 0)
            oct_options_help(OCT_COMMAND_INSPECT, stdout);
        return OCT_OK;
    }
    return oct_rank_zero_run(inspect, &options);
}
