// What the CUDA backend of several ranks exchanges in a step: the embedding's rows, and the nodes of reductions. Inside
// kernels where the exchange lets them (peers.h), otherwise by gathers between kernels. Chosen once, with the memory.
#include "kernels/cuda/backend_state.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/reduction.h"

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

// Of the nodes that one rank publishes for a reduction, the most.
static int32_t most_nodes(const oct_tree_finish *tree, int32_t ranks)
{
    int32_t most = 0;
    for (int32_t rank = 0; rank < ranks; rank++)
        most = larger(most, tree->nodes_of_rank[rank]);
    return most;
}

// Bytes of a rank's part of a gather of so many nodes (the embedding's rows: 1).
static size_t gather_bytes(const oct_step_program *program, int32_t nodes, int32_t columns)
{
    return (size_t)nodes * (size_t)columns * (size_t)program->model.hidden * sizeof(float);
}

static size_t most_gather_bytes(const oct_step_program *program, int32_t columns)
{
    const int32_t attention = most_nodes(&program->attention_finish, program->ranks);
    const int32_t ffn = most_nodes(&program->ffn_finish, program->ranks);
    return gather_bytes(program, larger(1, larger(attention, ffn)), columns);
}

static oct_cuda_peer_layout peer_layout(const oct_step_program *program, int32_t columns)
{
    const int32_t nodes = larger(program->attention_finish.nodes, program->ffn_finish.nodes);
    return oct_cuda_peer_layout_make(program->ranks, nodes, columns, program->model.hidden);
}

static bool kernels_exchange(const oct_device_exchange *exchange)
{
    return exchange != NULL && exchange->abort != NULL;
}

size_t oct_cuda_exchange_bytes(const oct_step_program *program, const oct_device_exchange *exchange, int32_t columns)
{
    if (program->ranks == 1)
        return 0;
    return kernels_exchange(exchange) ? (size_t)peer_layout(program, columns).bytes
                                      : most_gather_bytes(program, columns) * (1 + (size_t)program->ranks);
}

static oct_status allocate_peers(oct_cuda_backend *backend, int32_t columns)
{
    const oct_device_exchange *exchange = backend->exchange;
    const oct_step_program *program = backend->program;
    oct_device_memory memory = {0};
    const oct_cuda_peer_layout layout = peer_layout(program, columns);
    const oct_status status = exchange->allocate(exchange->context, (size_t)layout.bytes, &memory);
    backend->peers = (oct_cuda_peers){.ranks = exchange->ranks,
                                      .rank = exchange->rank,
                                      .hidden = program->model.hidden,
                                      .exchanges = 1 + 2 * (uint32_t)program->model.layers,
                                      .abort = exchange->abort,
                                      .patience_ns = backend->options.patience_ns,
                                      .layout = layout};
    for (int32_t rank = 0; rank < exchange->ranks; rank++)
        backend->peers.memory[rank] = memory.of_rank[rank];
    return status;
}

oct_status oct_cuda_exchange_allocate(oct_cuda_backend *backend)
{
    const oct_device_exchange *exchange = backend->exchange;
    const int32_t columns = oct_cuda_piece_columns(&backend->options);
    if (exchange == NULL)
        return OCT_OK;
    if (kernels_exchange(exchange))
        return allocate_peers(backend, columns);
    const size_t bytes = most_gather_bytes(backend->program, columns);
    const oct_status status = exchange->allocate(exchange->context, bytes, &backend->nodes);
    const oct_status all = exchange->allocate(exchange->context, bytes * (size_t)exchange->ranks, &backend->gathered);
    return status != OCT_OK ? status : all;
}

bool oct_cuda_kernels_exchange(const oct_cuda_backend *backend)
{
    return backend->peers.ranks > 1;
}

float *oct_cuda_embedded_rows(const oct_cuda_backend *backend)
{
    return backend->exchange == NULL || oct_cuda_kernels_exchange(backend) ? backend->residual : backend->nodes.own;
}

static oct_status gather(oct_cuda_backend *backend, size_t bytes)
{
    const oct_device_exchange *exchange = backend->exchange;
    const oct_status status =
        exchange->gather(exchange->context, backend->stream, backend->nodes.own, backend->gathered.own, bytes);
    return status == OCT_OK ? oct_cuda_mark(backend, OCT_OP_COUNT) : status;
}

static const float *gathered_of(const oct_cuda_backend *backend, int32_t rank, size_t bytes)
{
    return (const float *)(const void *)((const uint8_t *)backend->gathered.own + (size_t)rank * bytes);
}

static oct_status gather_rows(oct_cuda_backend *backend, oct_cuda_row_choice *choice)
{
    const oct_step_program *program = backend->program;
    const size_t bytes = gather_bytes(program, 1, choice->step.columns);
    for (int32_t rank = 0; rank < program->ranks; rank++)
        choice->rows_of_rank[rank] = gathered_of(backend, rank, bytes);
    const oct_status status = gather(backend, bytes);
    return status == OCT_OK ? oct_cuda_choose_rows(choice, backend->stream) : status;
}

oct_status oct_cuda_share_rows(oct_cuda_backend *backend, const oct_cuda_piece *piece)
{
    oct_cuda_row_choice choice = {
        .step = piece->step, .hidden = backend->program->model.hidden, .residual = backend->residual};
    oct_cuda_set_token_owners(&choice, backend->program);
    if (!oct_cuda_kernels_exchange(backend))
        return gather_rows(backend, &choice);
    oct_cuda_row_exchange rows = {.exchange = {.peers = backend->peers,
                                               .columns = piece->columns,
                                               .nodes = 1,
                                               .residual = backend->residual},
                                  .step = piece->step};
    for (int32_t rank = 0; rank <= choice.ranks; rank++)
        rows.first_token[rank] = choice.first_token[rank];
    const oct_status status = oct_cuda_exchange_rows(&backend->device, &rows, backend->stream);
    return status == OCT_OK ? oct_cuda_mark(backend, OCT_OP_COUNT) : status;
}

oct_status oct_cuda_plan_exchange(const oct_cuda_backend *backend, const oct_operation *operation, int32_t columns,
                                  oct_cuda_reduction *reduction)
{
    const bool down = operation->kind == OCT_OP_DOWN;
    const oct_tree_finish *tree = down ? &backend->program->ffn_finish : &backend->program->attention_finish;
    return oct_cuda_plan_reduction(reduction, &backend->peers, tree, columns,
                                   1 + 2 * (uint32_t)operation->layer + (down ? 1 : 0),
                                   backend->two_shot_bytes, backend->residual, backend->squares);
}

oct_status oct_cuda_gather_nodes(oct_cuda_backend *backend, const oct_operation *operation, int32_t columns)
{
    const oct_step_program *program = backend->program;
    const oct_tree_finish *tree =
        operation->kind == OCT_OP_DOWN ? &program->ffn_finish : &program->attention_finish;
    const size_t bytes = gather_bytes(program, most_nodes(tree, program->ranks), columns);
    const float *of_rank[OCT_MAX_RANKS];
    for (int32_t rank = 0; rank < program->ranks; rank++)
        of_rank[rank] = gathered_of(backend, rank, bytes);
    oct_cuda_finish finish;
    oct_cuda_plan_finish(&finish, tree, of_rank, program->ranks, columns, program->model.hidden, backend->residual);
    const oct_status status = gather(backend, bytes);
    return status == OCT_OK ? oct_cuda_finish_tree(&finish, backend->stream) : status;
}
