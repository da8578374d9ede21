// Reductions over ranks inside kernels, under emulation, on any number of ranks: one shot and two shots, few columns
// and many, replayed graphs; the residual has the bits of a gathered reduction and of one rank's tree, the sums of
// squares those of the norm. And the rows of the embedding.
//
// With an argument something is wrong: `unwaited` (epochs that do not count: a flag of the step before is taken for
// this step's), `unalternated` (one half where there should be two): the results then differ, and the program says so;
// `killed`, `stopped` and `late` (rank 1 between two steps: dead, stopped, alive but without a launch): the job then
// ends in time with code 5, whatever kernels wait for.
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "exchange_test.h"
#include "kernels/cuda/peers.h"
#include "kernels/cuda/reduction.h"
#include "launch/guard.h"
#include "runtime/progress.h"

enum { MOST_HIDDEN = 208, MOST_COLUMNS = 40, MOST = MOST_HIDDEN * MOST_COLUMNS, EXCHANGES = 3, STEPS = 3 };

typedef struct bench {
    const oct_device_exchange *exchange;
    cudaStream_t stream;
    oct_cuda_device device;
    oct_device_memory memory, own, gathered;
    uint32_t *step, number; // on the device, and the host's
    float *residual, *squares;
    bool unwaited, unalternated;
    uint64_t patience_ns;
} bench;

typedef struct shape {
    int granules, columns, hidden;
    bool two_shots;
} shape;

static void make_bench(bench *b, const oct_device_exchange *exchange, const char *mistake)
{
    *b = (bench){.exchange = exchange,
                 .unwaited = strcmp(mistake, "unwaited") == 0,
                 .unalternated = strcmp(mistake, "unalternated") == 0,
                 .patience_ns = strcmp(mistake, "late") == 0 ? 1000000000 : oct_world_patience_ns(&world)};
    const oct_cuda_peer_layout layout =
        oct_cuda_peer_layout_make(exchange->ranks, OCT_MAX_GRANULES, MOST_COLUMNS, MOST_HIDDEN);
    const size_t nodes = (size_t)OCT_MAX_GRANULES * MOST * sizeof(float);
    must(exchange->allocate(exchange->context, layout.bytes, &b->memory));
    must(exchange->allocate(exchange->context, EXCHANGES * nodes, &b->own));
    must(exchange->allocate(exchange->context, nodes, &b->gathered));
    must(oct_cuda_device_read(&b->device));
    CUDA(cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking));
    CUDA(cudaMalloc((void **)&b->step, sizeof *b->step));
    CUDA(cudaMalloc((void **)&b->residual, MOST * sizeof(float)));
    CUDA(cudaMalloc((void **)&b->squares, MOST * sizeof(float)));
}

static void free_bench(bench *b)
{
    CUDA(cudaFree(b->step));
    CUDA(cudaFree(b->residual));
    CUDA(cudaFree(b->squares));
    CUDA(cudaStreamDestroy(b->stream));
}

// Shapes use the same memory in different ways one after another, as steps do.
static oct_cuda_peers peers_of(const bench *b, int hidden)
{
    const oct_device_exchange *exchange = b->exchange;
    oct_cuda_peers peers = {.ranks = exchange->ranks,
                            .rank = exchange->rank,
                            .hidden = hidden,
                            .exchanges = b->unwaited ? 0 : EXCHANGES,
                            .step = b->step,
                            .abort = exchange->abort,
                            .patience_ns = b->patience_ns,
                            .layout = oct_cuda_peer_layout_make(exchange->ranks, OCT_MAX_GRANULES, MOST_COLUMNS,
                                                                MOST_HIDDEN)};
    if (b->unalternated)
        peers.layout.half_bytes = 0;
    for (int rank = 0; rank < exchange->ranks; rank++)
        peers.memory[rank] = b->memory.of_rank[rank];
    return peers;
}

// Where this rank's nodes of an exchange of a step lie.
static float *nodes_of(const bench *b, int exchange)
{
    return (float *)b->own.own + (size_t)exchange * OCT_MAX_GRANULES * MOST;
}

// A step's residual, this rank's nodes of all its exchanges, and its number, on their way to the device.
static void write_inputs(bench *b, const shape *s, const oct_tree_finish *tree, int step)
{
    static float nodes[OCT_MAX_GRANULES * MOST], residual[MOST];
    const int size = s->columns * s->hidden;
    const oct_run run = oct_partition_cut(s->granules, world.size, world.rank);
    for (int element = 0; element < size; element++)
        residual[element] = before(element);
    for (int i = 0; i < EXCHANGES; i++) {
        const int count = add_subtrees(nodes, size, s->granules, run, step * EXCHANGES + i);
        check(count == tree->nodes_of_rank[world.rank], "nodes of this rank", count);
        if (count > 0)
            CUDA(cudaMemcpy(nodes_of(b, i), nodes, (size_t)(count * size) * sizeof(float), cudaMemcpyHostToDevice));
    }
    b->number++;
    CUDA(cudaMemcpy(b->step, &b->number, sizeof b->number, cudaMemcpyHostToDevice));
    CUDA(cudaMemcpy(b->residual, residual, (size_t)size * sizeof(float), cudaMemcpyHostToDevice));
    CUDA(cudaDeviceSynchronize());
}

static void plan(const bench *b, const shape *s, const oct_tree_finish *tree, uint32_t number, oct_cuda_reduction *r)
{
    const oct_cuda_peers peers = peers_of(b, s->hidden);
    oct_status status = oct_cuda_plan_reduction(r, &peers, tree, s->columns, number, s->two_shots ? 0 : SIZE_MAX,
                                                b->residual, b->squares);
    if (b->unalternated) { // its memory is too small
        oct_failure_clear();
        status = OCT_OK;
    }
    must(status);
    r->own = nodes_of(b, (int)number);
    r->number = b->unwaited ? 0 : number;
}

// Reductions one after another: what one of them sends may come while others still read what they got before.
static cudaGraphExec_t capture(bench *b, const shape *s, const oct_tree_finish *tree)
{
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA(cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeThreadLocal));
    for (uint32_t i = 0; i < EXCHANGES; i++) {
        oct_cuda_reduction r;
        plan(b, s, tree, i, &r);
        must(oct_cuda_reduce(&b->device, &r, b->stream));
    }
    CUDA(cudaStreamEndCapture(b->stream, &graph));
    CUDA(cudaGraphInstantiate(&executable, graph, 0));
    CUDA(cudaGraphDestroy(graph));
    return executable;
}

static void run_graph(bench *b, cudaGraphExec_t graph)
{
    oct_progress_wait_begin(-1);
    CUDA(cudaGraphLaunch(graph, b->stream));
    await_stream(b->exchange, b->stream);
    if (b->exchange->abort != NULL && *b->exchange->abort != OCT_DEVICE_WAITS)
        must(b->exchange->check(b->exchange->context));
}

// The norm's sum of squares of a group (docs/numbers.md).
static float squares_of(const float *group, int rows)
{
    float sums[16];
    for (int lane = 0; lane < 16; lane++) {
        sums[lane] = 0;
        for (int row = lane; row < rows; row += 16)
            sums[lane] = __builtin_fmaf(group[row], group[row], sums[lane]);
    }
    for (int apart = 8; apart > 0; apart /= 2)
        for (int lane = 0; lane < apart; lane++)
            sums[lane] = sums[lane] + sums[lane + apart];
    return sums[0];
}

static void check_results(const bench *b, const shape *s, int step)
{
    static float root[MOST], expected[MOST], residual[MOST], squares[MOST];
    const int size = s->columns * s->hidden, groups = (s->hidden + OCT_CUDA_GROUP_ROWS - 1) / OCT_CUDA_GROUP_ROWS;
    CUDA(cudaMemcpy(residual, b->residual, (size_t)size * sizeof(float), cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(squares, b->squares, (size_t)(s->columns * groups) * sizeof(float), cudaMemcpyDeviceToHost));
    for (int element = 0; element < size; element++)
        expected[element] = before(element);
    for (int i = 0; i < EXCHANGES; i++) {
        add_subtrees(root, size, s->granules, (oct_run){0, s->granules}, step * EXCHANGES + i);
        for (int element = 0; element < size; element++)
            expected[element] = expected[element] + root[element];
    }
    const bool good = memcmp(expected, residual, (size_t)size * sizeof(float)) == 0;
    bool squared = true;
    for (int i = 0; i < s->columns * groups; i++) {
        const int first = i % groups * OCT_CUDA_GROUP_ROWS, rest = s->hidden - first;
        const float sum = squares_of(residual + i / groups * s->hidden + first,
                                     rest < OCT_CUDA_GROUP_ROWS ? rest : OCT_CUDA_GROUP_ROWS);
        squared = squared && memcmp(&sum, &squares[i], sizeof sum) == 0;
    }
    check(good, s->two_shots ? "a reduction in two shots of so many granules" : "a reduction in one shot", s->granules);
    check(squared, "sums of squares of so many columns", s->columns);
}

// The same by a gather, as where memory is not symmetric.
static void check_gathered(bench *b, const shape *s, const oct_tree_finish *tree)
{
    static float expected[MOST], found[MOST];
    const size_t bytes = (size_t)(s->columns * s->hidden) * sizeof(float);
    const float *of_rank[OCT_MAX_RANKS];
    int most = 0;
    for (int rank = 0; rank < world.size; rank++)
        most = tree->nodes_of_rank[rank] > most ? tree->nodes_of_rank[rank] : most;
    for (int rank = 0; rank < world.size; rank++)
        of_rank[rank] = (const float *)b->gathered.own + (size_t)(rank * most * s->columns * s->hidden);
    CUDA(cudaMemcpy(found, b->residual, bytes, cudaMemcpyDeviceToHost));
    for (int element = 0; element < s->columns * s->hidden; element++)
        expected[element] = before(element);
    CUDA(cudaMemcpy(b->residual, expected, bytes, cudaMemcpyHostToDevice));
    for (int i = 0; i < EXCHANGES; i++) {
        must(b->exchange->gather(b->exchange->context, b->stream, nodes_of(b, i), b->gathered.own,
                                 (size_t)most * bytes));
        oct_cuda_finish finish;
        oct_cuda_plan_finish(&finish, tree, of_rank, world.size, s->columns, s->hidden, b->residual);
        must(oct_cuda_finish_tree(&finish, b->stream));
    }
    await_stream(b->exchange, b->stream);
    CUDA(cudaMemcpy(expected, b->residual, bytes, cudaMemcpyDeviceToHost));
    check(memcmp(expected, found, bytes) == 0, "a gathered reduction has other bits", s->granules);
}

static void test_shape(bench *b, const shape *s)
{
    oct_tree_finish tree;
    oct_tree_schedule_finish(&tree, s->granules, world.size);
    cudaGraphExec_t graph = capture(b, s, &tree);
    for (int step = 0; step < STEPS; step++) {
        write_inputs(b, s, &tree, step);
        run_graph(b, graph);
        check_results(b, s, step);
    }
    if (s->hidden % 4 == 0)
        check_gathered(b, s, &tree);
    CUDA(cudaGraphExecDestroy(graph));
}

// Columns by turns, so that neighbouring exchanges differ in kind and size.
static void test_shapes(bench *b)
{
    static const int granules[] = {1, 3, 8, 14, 64}, hiddens[] = {20, 64, 100, MOST_HIDDEN};
    static const int columns[] = {1, 2, 3, 5, 8, 13, 16, 17, MOST_COLUMNS};
    int turn = 0;
    for (size_t g = 0; g < sizeof granules / sizeof granules[0]; g++)
        for (size_t h = 0; h < sizeof hiddens / sizeof hiddens[0]; h++)
            for (int two_shots = 0; two_shots < 2; two_shots++) {
                const int c = columns[turn++ % (int)(sizeof columns / sizeof columns[0])];
                test_shape(b, &(shape){granules[g], c, hiddens[h], two_shots != 0 || c > OCT_CUDA_ONE_SHOT_COLUMNS});
            }
}

static float row_element(int32_t token, int element)
{
    return token < 0 ? 0.0f : partial(token, element, 0);
}

// Each rank knows its own tokens' rows; afterwards all know all. Twice, so that the second one meets what the first
// left.
static void test_rows(bench *b, int columns, int hidden)
{
    enum { TOKENS_OF_RANK = 10 };
    static float rows[MOST];
    int32_t tokens[MOST_COLUMNS];
    oct_cuda_row_exchange exchange = {.exchange = {.peers = peers_of(b, hidden), .columns = columns, .nodes = 1}};
    for (int rank = 0; rank <= world.size; rank++)
        exchange.first_token[rank] = rank * TOKENS_OF_RANK;
    CUDA(cudaMalloc((void **)&exchange.step.tokens, sizeof tokens));
    exchange.exchange.residual = b->residual;
    for (int round = 0; round < 2; round++) {
        b->number++;
        for (int c = 0; c < columns; c++)
            tokens[c] = c == 2 ? -1 : (c * 13 + round * 7) % (TOKENS_OF_RANK * world.size);
        for (int i = 0; i < columns * hidden; i++) {
            const bool own = tokens[i / hidden] < 0 || tokens[i / hidden] / TOKENS_OF_RANK == world.rank;
            rows[i] = own ? row_element(tokens[i / hidden], i % hidden) : -1.0f;
        }
        CUDA(cudaMemcpy(b->step, &b->number, sizeof b->number, cudaMemcpyHostToDevice));
        CUDA(cudaMemcpy(exchange.step.tokens, tokens, sizeof tokens, cudaMemcpyHostToDevice));
        CUDA(cudaMemcpy(b->residual, rows, (size_t)(columns * hidden) * sizeof(float), cudaMemcpyHostToDevice));
        for (uint32_t i = 0; i < EXCHANGES; i++) { // the numbers of a step are all used
            exchange.exchange.number = i;
            oct_progress_wait_begin(-1);
            must(oct_cuda_exchange_rows(&b->device, &exchange, b->stream));
        }
        await_stream(b->exchange, b->stream);
        CUDA(cudaMemcpy(rows, b->residual, (size_t)(columns * hidden) * sizeof(float), cudaMemcpyDeviceToHost));
        bool good = true;
        for (int i = 0; i < columns * hidden; i++) {
            const float expected = row_element(tokens[i / hidden], i % hidden);
            good = good && memcmp(&expected, &rows[i], sizeof expected) == 0;
        }
        check(good, "rows of so many columns", columns);
    }
    CUDA(cudaFree(exchange.step.tokens));
}

// Many steps of ranks that come at different times, which shows what is not waited for.
static void run_unevenly(bench *b)
{
    const shape s = {14, 3, MOST_HIDDEN, false};
    oct_tree_finish tree;
    oct_tree_schedule_finish(&tree, s.granules, world.size);
    cudaGraphExec_t graph = capture(b, &s, &tree);
    for (int step = 0, failed = 0; step < 100 && failed == 0; step++) {
        write_inputs(b, &s, &tree, step);
        if ((step * 5 + world.rank * 3) % 7 == 0)
            usleep(2000);
        run_graph(b, graph);
        check_results(b, &s, step);
        if (step % 20 == 19) { // not always: meeting makes ranks even
            failed = failures;
            oct_world_allreduce(&world, &failed, 1, MPI_INT, MPI_MAX);
        }
    }
    CUDA(cudaGraphExecDestroy(graph));
}

// Steps until rank 1 is told to do something else.
static void lose_rank(bench *b, const char *mistake)
{
    const shape s = {8, 1, 64, false};
    oct_tree_finish tree;
    oct_tree_schedule_finish(&tree, s.granules, world.size);
    cudaGraphExec_t graph = capture(b, &s, &tree);
    oct_progress_phase(OCT_PHASE_DECODE);
    for (int step = 0;; step++) {
        oct_progress_step(step);
        if (step == 20 && world.rank == 1) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            fprintf(stderr, "rank 1 was here at %lld ms\n", (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000);
            if (strcmp(mistake, "late") != 0)
                raise(mistake[0] == 'k' ? SIGKILL : SIGSTOP);
            for (;;) { // it looks alive
                oct_progress_bump();
                usleep(10000);
            }
        }
        write_inputs(b, &s, &tree, step);
        run_graph(b, graph);
    }
}

static void run_tests(const oct_device_exchange *exchange, const char *mistake)
{
    bench b;
    check(exchange->abort != NULL, "kernels can exchange", 0);
    if (exchange->abort == NULL)
        return;
    make_bench(&b, exchange, mistake);
    if (strcmp(mistake, "killed") == 0 || strcmp(mistake, "stopped") == 0 || strcmp(mistake, "late") == 0)
        lose_rank(&b, mistake);
    if (mistake[0] == '\0') {
        test_shapes(&b);
        test_rows(&b, 1, 64);
        test_rows(&b, 5, 100);
        test_rows(&b, MOST_COLUMNS, MOST_HIDDEN);
    }
    run_unevenly(&b);
    free_bench(&b);
}

int main(int count, char **arguments)
{
    const char *mistake = count > 1 ? arguments[1] : "", *deadline = getenv("DEADLINE");
    oct_log_configure(OCT_VERBOSE);
    oct_guard_begin();
    const oct_world_options options = oct_world_options_deadline(deadline != NULL ? atof(deadline) : 60);
    oct_status status = oct_world_init(&world, &options);
    if (status == OCT_OK) {
        oct_device_exchange exchange;
        CUDA(cudaSetDevice(world.rank));
        status = oct_device_exchange_open(&exchange, &world);
        if (status == OCT_OK) {
            run_tests(&exchange, mistake);
            meet(); // kernels of others may still look at this rank's memory
            oct_device_exchange_close(&exchange);
            if (failures == 0)
                printf("rank %d of %d: all good\n", world.rank, world.size);
        }
    }
    oct_world_finish(&world);
    fflush(stdout);
    const int code = status != OCT_OK ? (int)status : failures != 0;
    oct_progress_goodbye(code);
    return code;
}
