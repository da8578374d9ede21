// Sessions: the frame around the work of rank 0.
#include "launch/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <xxhash.h>

#include "launch/bench.h"
#include "launch/files.h"
#include "launch/synthetic.h"
#include "ranks/drafter_synthetic.h"
#include "ranks/launch_check.h"
#include "runtime/allocations.h"
#include "runtime/fault.h"

static int32_t largest(const oct_number_list *list)
{
    int32_t most = 0;
    for (int i = 0; i < list->count; i++)
        most = list->values[i] > most ? list->values[i] : most;
    return most;
}

// The option table has checked the words.
static int32_t index_of(const char *word, const char *const *words)
{
    int32_t i = 0;
    while (words[i] != NULL && strcmp(word, words[i]) != 0)
        i++;
    return i;
}

// The longest sequence of `octet bench`: the prompt, then what is decoded behind it, or the columns of one step.
static int64_t bench_positions(const oct_options *options)
{
    const int64_t decoded = options->max_tokens + OCT_BENCH_PAIRS, columns = largest(&options->columns);
    return options->prompt_tokens + (decoded > columns ? decoded : columns);
}

// Some options mean the CPU backend and no other.
static bool wants_cpu(const oct_options *options)
{
    return strcmp(options->instructions, "auto") != 0 || oct_options_given(options, "activations");
}

static bool wants_persistent(const oct_options *options)
{
    return strcmp(options->executor, "persistent") == 0;
}

// And some the CUDA backend.
static bool wants_cuda(const oct_options *options)
{
    return wants_persistent(options) || options->share_devices;
}

// The backend that the command line asks for; NULL: whichever there is.
static const char *backend_of(const oct_options *options)
{
    if (strcmp(options->backend, "auto") != 0)
        return options->backend;
    return wants_cpu(options) ? "cpu" : wants_cuda(options) ? "cuda" : NULL;
}

// What the option table cannot check.
static oct_status check_options(oct_session *session)
{
    const oct_options *options = &session->options;
    if (strcmp(options->backend, "cuda") == 0 && wants_cpu(options))
        return oct_fail(OCT_ERR_USAGE, "--backend cuda has no --instructions and no --activations; leave them out, or "
                        "give --backend cpu");
    if (options->share_devices && backend_of(options) != NULL && strcmp(backend_of(options), "cpu") == 0)
        return oct_fail(OCT_ERR_USAGE, "--share-devices is for GPUs, and the CPU is asked for; leave it out, or give "
                        "--backend cuda");
    if (wants_persistent(options) && (strcmp(options->backend, "cpu") == 0 || wants_cpu(options)))
        return oct_fail(OCT_ERR_USAGE, "--executor persistent is of --backend cuda, and the command line asks for cpu "
                        "(--backend, --instructions or --activations); leave it out, or those");
    if (options->speculate != NULL) {
        const oct_status status = oct_speculation_parse(&session->speculation, options->speculate);
        if (status != OCT_OK)
            return status;
        if (options->command == OCT_COMMAND_CHAT && session->speculation.kind == OCT_SPECULATE_SYNTHETIC)
            return oct_fail(OCT_ERR_USAGE, "chat: --speculate %s would decode a conversation twice; give another one",
                            options->speculate);
    }
    if (options->command != OCT_COMMAND_BENCH || options->context == 0 || options->context >= bench_positions(options))
        return OCT_OK;
    return oct_fail(OCT_ERR_USAGE, "bench: --context %lld is too short, the measurements take %lld tokens a sequence; "
                    "give a larger one, a shorter --prompt or fewer tokens (-n)", (long long)options->context,
                    (long long)bench_positions(options));
}

// Sequences at a time.
static int32_t slots_of(const oct_options *options)
{
    if (options->command == OCT_COMMAND_GENERATE && options->prompts != NULL)
        return (int32_t)options->sequences;
    return largest(&options->batch);
}

// How many tokens a sequence may be guessed ahead.
static int32_t draft_tokens_of(const oct_session *session)
{
    return session->speculation.kind == OCT_SPECULATE_OFF ? 0 : (int32_t)session->options.draft_tokens;
}

static oct_engine_options engine_options(const oct_session *session)
{
    const oct_options *options = &session->options;
    const int32_t slots = slots_of(options) > 1 ? slots_of(options) : 1, columns = largest(&options->columns);
    const int32_t verified = slots * (1 + draft_tokens_of(session));
    static const char *const instructions[] = {"auto", "scalar", "avx2", "avx512", NULL};
    static const char *const executors[] = {"graph", "persistent", NULL};
    static const char *const exchanges[] = {"auto", "memory", "mpi", NULL};
    static const char *const controls[] = {"auto", "ucx", "mpi", NULL};
    int64_t context = options->context;
    if (options->command == OCT_COMMAND_BENCH && context == 0)
        context = bench_positions(options);
    return (oct_engine_options){
        .backend = backend_of(options),
        .threads = (int32_t)options->threads,
        .instructions = index_of(options->instructions, instructions) - 1,
        .share_devices = options->share_devices,
        .executor = (oct_executor)index_of(options->executor, executors),
        .fp32_activations = strcmp(options->activations, "fp32") == 0,
        .context = (int32_t)context,
        .prefill_chunk = (int32_t)options->prefill_chunk,
        .slots = slots,
        .step_columns = verified > columns ? verified : columns,
        .all_logits = options->command == OCT_COMMAND_SCORE,
        .kv_tokens = (int32_t)options->kv_tokens,
        .exchange = (oct_exchange_path)index_of(options->exchange, exchanges),
        .control = (oct_control_path)index_of(options->control, controls),
    };
}

// Nobody needs the name of synthetic weights once they are open: however the job ends, they are gone.
static void remove_synthetic(void *context)
{
    oct_session *session = context;
    oct_synthetic_remove(&session->world, session->synthetic);
    session->synthetic[0] = '\0';
}

// The file of the model that takes turns with the first one; NULL: there is none.
static const char *second_model(const oct_session *session)
{
    return session->speculation.kind == OCT_SPECULATE_MODEL ? session->speculation.path : session->options.reference;
}

// It has room for the same sequences.
static oct_status open_second(oct_session *session)
{
    oct_engine_options options = engine_options(session);
    options.context = oct_engine_read_figures(session->engine)->context;
    options.companion = session->engine;
    options.step_columns = 0;
    return oct_engine_open(&session->second, &session->world, second_model(session), &options);
}

static oct_status open_engines(oct_session *session)
{
    oct_engine_options options = engine_options(session);
    options.when_open = remove_synthetic;
    options.when_open_context = session;
    oct_status status = OCT_OK;
    if (session->options.synthetic != NULL) {
        status = oct_synthetic_write(&session->world, &session->options, session->synthetic);
        session->options.operand = session->synthetic;
    }
    if (status == OCT_OK)
        status = oct_engine_open(&session->engine, &session->world, session->options.operand, &options);
    remove_synthetic(session); // where it could not be opened
    return status == OCT_OK && second_model(session) != NULL ? open_second(session) : status;
}

// Ranks other than 0: engines take turns as rank 0 says.
static oct_status serve(oct_session *session)
{
    oct_engine *engine = session->engine;
    for (bool finished = false;;) {
        const oct_status status = oct_engine_serve(engine, &finished);
        if (status != OCT_OK || finished)
            return status;
        engine = engine == session->engine ? session->second : session->engine;
    }
}

static size_t longest_piece(const oct_tokenizer *tokenizer)
{
    size_t longest = 1;
    for (int32_t id = 0; id < oct_tokenizer_count(tokenizer); id++) {
        size_t bytes = 0;
        oct_tokenizer_piece(tokenizer, id, &bytes);
        longest = bytes > longest ? bytes : longest;
    }
    return longest;
}

static oct_status start_coordinator(oct_session *session)
{
    const oct_coordinator_options options = {.drafter = session->drafter,
                                             .draft_tokens = draft_tokens_of(session),
                                             .controller = session->controller};
    return oct_coordinator_create(&session->coordinator, session->engine, &options);
}

static oct_status prepare_to_decode(oct_session *session)
{
    session->longest_piece_bytes = longest_piece(session->tokenizer);
    session->records = session->speculation.kind == OCT_SPECULATE_SYNTHETIC;
    oct_status status =
        oct_speculation_start(&session->speculation, session->engine, session->second, &session->drafter);
    if (status == OCT_OK)
        status = oct_speculation_control(&session->speculation, session->engine, draft_tokens_of(session),
                                         &session->controller);
    return status != OCT_OK ? status : start_coordinator(session);
}

oct_status oct_session_step(oct_session *session)
{
    oct_figures *figures = &session->figures;
    oct_step_report report;
    const int64_t before = oct_allocations_count();
    const int64_t begin = session->stepped_ns > 0 ? session->stepped_ns : oct_now_ns();
    const oct_status status = oct_coordinator_step(session->coordinator, &report);
    if (status != OCT_OK)
        return status;
    const int64_t now = oct_now_ns();
    oct_figures_add_step(figures, oct_engine_read_figures(session->engine), &report, (double)(now - begin) * 1e-9);
    session->stepped_ns = oct_coordinator_is_idle(session->coordinator) ? 0 : now;
    if (report.decoding > 0)
        figures->decode_allocations += oct_allocations_count() - before;
    return OCT_OK;
}

oct_status oct_session_replay(oct_session *session)
{
    const double bandwidth = session->figures.bandwidth;
    oct_drafter_synthetic_replay(session->drafter);
    session->records = false;
    oct_coordinator_destroy(session->coordinator);
    session->coordinator = NULL;
    oct_figures_free(&session->figures);
    const oct_status status = oct_figures_create(&session->figures);
    session->figures.bandwidth = bandwidth;
    return status != OCT_OK ? status : start_coordinator(session);
}

static oct_status prepare_to_speak(oct_session *session)
{
    if (session->world.rank != 0)
        return OCT_OK;
    const oct_vocabulary *vocabulary = oct_engine_vocabulary(session->engine);
    oct_status status = oct_figures_create(&session->figures);
    if (status == OCT_OK)
        status = oct_tokenizer_create(&session->tokenizer, vocabulary);
    const oct_command command = session->options.command;
    if (status == OCT_OK && (command == OCT_COMMAND_GENERATE || command == OCT_COMMAND_CHAT))
        status = prepare_to_decode(session);
    if (status != OCT_OK || !(session->options.chat || session->options.command == OCT_COMMAND_CHAT))
        return status;
    return oct_chat_template_recognise(&session->chat_template, vocabulary->chat_template);
}

static bool is_broken(const oct_engine *engine)
{
    return engine != NULL && oct_engine_is_broken(engine);
}

bool oct_session_can_go_on(const oct_session *session, oct_status status)
{
    if (is_broken(session->engine) || is_broken(session->second))
        return false;
    return status != OCT_ERR_LOST && status != OCT_ERR_DISAGREE && status != OCT_ERR_INTERNAL;
}

static oct_status work_together(oct_session *session, oct_session_work work)
{
    oct_status status = oct_world_agree(&session->world, prepare_to_speak(session));
    if (status != OCT_OK)
        return status;
    if (session->world.rank == 0) {
        if (session->coordinator != NULL)
            status = oct_coordinator_measure_costs(session->coordinator);
        if (status == OCT_OK)
            status = work(session);
        if (!oct_session_can_go_on(session, status))
            oct_world_abort(&session->world, status);
        const oct_status finished = oct_engine_finish(session->engine);
        if (finished != OCT_OK)
            oct_world_abort(&session->world, finished);
    } else {
        status = serve(session);
        if (status != OCT_OK)
            oct_world_abort(&session->world, status);
    }
    oct_progress_phase(OCT_PHASE_FINISH);
    const oct_status fault = oct_fault_point(OCT_PHASE_FINISH);
    return oct_world_agree(&session->world, status != OCT_OK ? status : fault);
}

// The largest resident set of any rank. COLLECTIVE.
static uint64_t peak_rss_bytes(oct_world *world)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    uint64_t most = (uint64_t)usage.ru_maxrss * 1024;
    oct_world_allreduce(world, &most, 1, MPI_UINT64_T, MPI_MAX);
    return most;
}

// Rank 0: files are compared before any is opened. That of the figures is opened now, because what cannot be written is
// better known at the beginning, and emptied when they are there.
static oct_status open_outputs(oct_session *session)
{
    const char *path = session->options.stats;
    if (session->world.rank != 0)
        return OCT_OK;
    const oct_status status = oct_files_check(&session->options, session->speculation.path);
    if (status != OCT_OK || path == NULL)
        return status;
    const int descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    session->stats = descriptor >= 0 ? fdopen(descriptor, "w") : NULL;
    if (session->stats == NULL)
        return oct_fail(OCT_ERR_FILE, "the figures cannot be written to '%s': %s", path, strerror(errno));
    return OCT_OK;
}

// The figures of what was done, whether or not every line of a batch was fine.
static oct_status report(oct_session *session, oct_status worked)
{
    const uint64_t peak = peak_rss_bytes(&session->world);
    const bool answered = session->figures.answers > 0;
    oct_status status = OCT_OK;
    session->figures.peak_rss_bytes = peak;
    if (answered)
        oct_figures_print(&session->figures, session);
    if (session->stats != NULL && (answered || worked == OCT_OK)) {
        status = oct_figures_write(&session->figures, session, session->stats, session->options.stats);
        session->stats = NULL;
    }
    return oct_world_agree(&session->world, status);
}

// All ranks must have been asked for the same thing; threads and the checkpoint's path may differ from rank to rank.
static oct_status compare_options(oct_session *session)
{
    const oct_options *options = &session->options;
    const oct_engine_options engine = engine_options(session);
    char facts[256];
    const int length = snprintf(facts, sizeof facts, "%d %d %d %d %d %d %s %s %s %s %s %s %d %d %d %d",
                                (int)options->command, engine.context, engine.prefill_chunk, engine.slots,
                                engine.step_columns, engine.kv_tokens, options->activations, options->exchange,
                                options->control, options->instructions, options->backend, options->executor,
                                options->share_devices, options->reference != NULL, options->synthetic != NULL,
                                (int)session->speculation.kind);
    const uint64_t hash = XXH64(facts, (size_t)length, 0);
    uint64_t both[2] = {hash, ~hash};
    oct_world_allreduce(&session->world, both, 2, MPI_UINT64_T, MPI_MAX);
    oct_status status = OCT_OK;
    if (both[0] != hash || both[1] != ~hash)
        status = oct_fail(OCT_ERR_DISAGREE, "the ranks were started with different commands or options (--context, "
                          "--prefill-chunk, --activations, --exchange, --control, --instructions, --backend, "
                          "--executor, --share-devices, --reference, --synthetic, --columns, --batch, --speculate, "
                          "--draft-tokens, --kv-tokens); give all the same");
    return oct_world_agree(&session->world, status);
}

int oct_session_run(oct_command command, int argc, char **argv, oct_session_work work)
{
    signal(SIGPIPE, SIG_IGN); // a reader who leaves (`| head`) is a failed write with a message, not a lost rank
    oct_session session = {0};
    if (sched_getaffinity(0, sizeof session.processors, &session.processors) != 0)
        CPU_ZERO(&session.processors); // decoding pins the main thread to one of them
    oct_status parsed = oct_options_parse(&session.options, command, argc, argv);
    if (parsed == OCT_OK && !session.options.help)
        parsed = check_options(&session);
    if (parsed == OCT_OK && session.options.help) {
        if (oct_launch_read().rank == 0)
            oct_options_help(command, stdout);
        return OCT_OK;
    }
    if (parsed == OCT_OK && session.options.verbose)
        oct_log_configure(OCT_VERBOSE);
    const bool plain = parsed != OCT_OK || session.options.deadline < 0;
    const oct_world_options world =
        plain ? oct_world_options_default() : oct_world_options_deadline(session.options.deadline);
    oct_status status = oct_world_init(&session.world, &world);
    if (status == OCT_OK)
        status = oct_world_agree(&session.world, parsed); // one rank's wrong command line is everybody's
    if (status == OCT_OK)
        status = compare_options(&session);
    if (status == OCT_OK)
        status = oct_world_agree(&session.world, open_outputs(&session));
    if (status == OCT_OK)
        status = open_engines(&session);
    if (status == OCT_OK) {
        status = work_together(&session, work);
        const oct_status reported = report(&session, status);
        status = status != OCT_OK ? status : reported;
    }
    if (session.stats != NULL)
        fclose(session.stats);
    oct_coordinator_destroy(session.coordinator);
    if (session.drafter != NULL)
        session.drafter->destroy(session.drafter);
    oct_controller_destroy(session.controller);
    oct_figures_free(&session.figures);
    oct_chat_template_free(&session.chat_template);
    oct_tokenizer_destroy(session.tokenizer);
    oct_engine_close(session.second);
    oct_engine_close(session.engine);
    oct_world_finish(&session.world);
    return status;
}
