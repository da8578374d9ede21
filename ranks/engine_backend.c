// The engine's backend: which kind all ranks use, what it is told, and whether its memory suffices.
#include "ranks/engine_state.h"

#include <stdio.h>
#include <string.h>

#include "ranks/launch_check.h"

static const char *unknown_kind_mend(const char *name)
{
    return strcmp(name, "cuda") == 0 ? "build Octet with CUDA and NCCL (cmake --preset cuda), or use --backend cpu"
                                     : "use --backend cpu";
}

// What each rank's device is, [ranks]; failures of some ranks are not yet agreed on. COLLECTIVE.
static oct_status gather_offers(oct_engine *engine, const oct_backend_kind *kind, bool may_share,
                                oct_backend_offer *offers)
{
    oct_world *world = engine->world;
    engine->offer = (oct_backend_offer){0};
    const oct_status status = kind->offer(world->host_rank, world->host_size, may_share, &engine->offer);
    memset(offers, 0, (size_t)world->size * sizeof *offers);
    offers[world->rank] = engine->offer;
    oct_world_allreduce(world, offers, world->size * (int)sizeof *offers, MPI_BYTE, MPI_BOR);
    return status;
}

// Ranks that drive one device divide what is free of its memory.
static void share_devices(oct_engine *engine, const oct_backend_offer *offers)
{
    const oct_world *world = engine->world;
    uint64_t sharers = 0;
    engine->shares_devices = false;
    for (int32_t a = 0; a < world->size; a++) {
        sharers += a == world->rank || oct_backend_same_device(&offers[a], &offers[world->rank]);
        for (int32_t b = 0; b < a; b++)
            engine->shares_devices = engine->shares_devices || oct_backend_same_device(&offers[a], &offers[b]);
    }
    engine->offer.memory_bytes /= sharers;
}

static void use_kind(oct_engine *engine, const oct_backend_kind *kind, const oct_backend_offer *offers)
{
    share_devices(engine, offers);
    engine->kind = kind;
    engine->figures.backend = kind->name;
    engine->figures.instructions = kind->instructions_name(engine->instructions);
}

// Whether all ranks can work with this kind. COLLECTIVE; *status is this rank's and not yet agreed on.
static bool kind_suits(oct_engine *engine, const oct_backend_kind *kind, const oct_engine_options *options,
                       oct_backend_offer *offers, oct_status *status)
{
    oct_world *world = engine->world;
    *status = gather_offers(engine, kind, options->share_devices, offers);
    int worst = (int)*status;
    oct_world_allreduce(world, &worst, 1, MPI_INT, MPI_MAX);
    if (worst != OCT_OK)
        return false;
    *status = kind->agree(offers, world->size, world->rank, options->instructions, &engine->instructions);
    worst = (int)*status;
    oct_world_allreduce(world, &worst, 1, MPI_INT, MPI_MAX);
    return worst == OCT_OK;
}

// Nobody has asked for this kind, and some rank cannot have it: another is tried. Where its devices are expected the
// reason is said. COLLECTIVE.
static void pass_over(const oct_engine *engine, const oct_backend_kind *kind, const oct_backend_kind *next,
                      const oct_backend_offer *offers, oct_status status)
{
    bool is_expected = false;
    for (int32_t rank = 0; rank < engine->world->size; rank++)
        is_expected = is_expected || offers[rank].is_expected;
    char why[1024];
    snprintf(why, sizeof why, "%s", oct_failure_text());
    oct_failure_clear();
    if (!is_expected)
        oct_note("no %s: %s", kind->name, why[0] != '\0' ? why : "another rank has none");
    else if (status != OCT_OK)
        oct_fail(status, "without --backend it runs with %s: %s", next->name, why);
    if (is_expected)
        oct_world_agree(engine->world, status);
}

oct_status oct_engine_choose_backend(oct_engine *engine, const oct_engine_options *options)
{
    oct_world *world = engine->world;
    const oct_backend_kind *named = options->companion != NULL ? options->companion->kind : NULL;
    if (named == NULL && options->backend != NULL) {
        named = oct_backend_find(options->backend);
        if (named == NULL)
            return oct_world_agree(world, oct_fail(OCT_ERR_MACHINE, "this Octet has no backend '%s'; %s",
                                                   options->backend, unknown_kind_mend(options->backend)));
    }
    for (int32_t i = 0;; i++) {
        const oct_backend_kind *kind = named != NULL ? named : oct_backend_kind_at(i);
        const oct_backend_kind *next = named != NULL ? NULL : oct_backend_kind_at(i + 1);
        oct_backend_offer offers[OCT_MAX_RANKS];
        oct_status status;
        if (kind_suits(engine, kind, options, offers, &status)) {
            use_kind(engine, kind, offers);
            return OCT_OK;
        }
        if (next == NULL)
            return oct_world_agree(world, status);
        pass_over(engine, kind, next, offers, status);
    }
}

static oct_backend_options backend_options(const oct_engine *engine, const oct_engine_options *options)
{
    return (oct_backend_options){
        .instructions = engine->instructions,
        .max_columns = engine->figures.step_columns,
        .max_logit_columns = engine->figures.logit_columns,
        .max_sampled_columns = engine->figures.sampled_columns,
        .context = engine->figures.context,
        .pages = engine->figures.kv_pages,
        .loaders = engine->figures.threads,
        .piece_bytes = OCT_LOAD_PIECE_BYTES,
        .device_exchange = engine->device_exchange,
        .patience_ns = oct_world_patience_ns(engine->world),
        .companion = options->companion != NULL ? options->companion->backend : NULL,
        .executor = options->executor,
        .cpu = {.threads = engine->placement.threads,
                .cpus = engine->placement.cpus,
                .oversubscribed = engine->placement.oversubscribed,
                .fp32_activations = options->fp32_activations},
    };
}

oct_status oct_engine_create_backend(oct_engine *engine, const oct_engine_options *options)
{
    const oct_shard *shard = &engine->shard;
    const oct_backend_options backend = backend_options(engine, options);
    return engine->kind->create(&engine->backend, &shard->program, shard->encodings, shard->matrix_bytes,
                                shard->vectors, shard->rope, &engine->exchange, &backend);
}

static void measure_memory(const oct_engine *engine, const oct_engine_options *options, oct_backend_sizes *sizes)
{
    const oct_backend_options backend = backend_options(engine, options);
    engine->kind->measure(&engine->shard.program, engine->shard.matrix_bytes, &backend, sizes);
}

// What a companion has not yet taken of the memory that looks free.
static uint64_t promised_bytes(const oct_engine_options *options)
{
    return options->companion != NULL ? options->companion->later_bytes : 0;
}

// What this rank can fill: its device's own memory, or its part of the host's.
static uint64_t room_bytes(const oct_engine *engine)
{
    return engine->offer.memory_bytes > 0 ? engine->offer.memory_bytes
                                          : oct_memory_available_bytes() / (uint64_t)engine->world->host_size;
}

// Pages that every rank holds beside the rest. An eighth of the memory is left to others: sequences come and go, and in
// the end every page has been touched.
static uint64_t pages_that_fit(oct_engine *engine, const oct_engine_options *options)
{
    oct_world *world = engine->world;
    oct_backend_sizes sizes;
    measure_memory(engine, options, &sizes);
    uint64_t most[] = {sizes.kv_cache / (uint64_t)engine->figures.kv_pages,
                       sizes.weights + sizes.buffers + promised_bytes(options)};
    oct_world_allreduce(world, most, 2, MPI_UINT64_T, MPI_MAX); // of the largest rank
    const uint64_t room = room_bytes(engine) / 8 * 7;
    uint64_t pages = room > most[1] ? (room - most[1]) / most[0] : 0;
    oct_world_allreduce(world, &pages, 1, MPI_UINT64_T, MPI_MIN);
    return pages;
}

// Pages of the KV cache: what was asked for; or a whole context for each slot, as far as they fit, and at least one.
static void size_kv_cache(oct_engine *engine, const oct_engine_options *options)
{
    oct_engine_figures *figures = &engine->figures;
    const int32_t one = oct_page_count(figures->context);
    figures->kv_pages = options->kv_tokens > 0 ? oct_page_count(options->kv_tokens) : one;
    if (options->kv_tokens > 0 || figures->slots == 1)
        return;
    const uint64_t all = (uint64_t)figures->slots * (uint64_t)one;
    uint64_t pages = pages_that_fit(engine, options);
    pages = pages < all ? pages : all;
    pages = pages < INT32_MAX ? pages : INT32_MAX;
    figures->kv_pages = pages > (uint64_t)one ? (int32_t)pages : one;
    if (pages < all)
        oct_note("the memory holds %d of the %llu pages of KV cache that %d sequences of %d tokens would fill",
                 figures->kv_pages, (unsigned long long)all, figures->slots, figures->context);
}

// A device has memory of its own; of a host's, the largest rank must fit as often as there are ranks.
static oct_status check_memory(oct_engine *engine, uint64_t own, uint64_t most)
{
    const oct_world *world = engine->world;
    const char *host = world->host_names[world->host_index];
    const uint64_t room = engine->offer.memory_bytes;
    if (room == 0)
        return oct_launch_check_memory(most, world->host_size, oct_memory_available_bytes(), host);
    if (own <= room)
        return OCT_OK;
    const double gib = 1024.0 * 1024.0 * 1024.0;
    return oct_fail(OCT_ERR_MACHINE,
                    "the device of rank %d on host %s has %.2f GiB of memory left; expected %.2f GiB for the model and "
                    "its cache (use more ranks, a smaller --context or a smaller encoding)",
                    world->rank, host, (double)room / gib, (double)own / gib);
}

oct_status oct_engine_size_memory(oct_engine *engine, const oct_engine_options *options)
{
    oct_backend_sizes sizes;
    size_kv_cache(engine, options);
    measure_memory(engine, options, &sizes);
    // A device's memory is taken at once; that of a host when it is first touched.
    const bool at_once = engine->offer.memory_bytes > 0;
    const uint64_t later = at_once ? 0 : sizes.kv_cache + sizes.buffers + promised_bytes(options);
    const uint64_t own = sizes.weights + (at_once ? sizes.kv_cache + sizes.buffers : later);
    uint64_t both[] = {own, later};
    oct_world_allreduce(engine->world, both, 2, MPI_UINT64_T, MPI_MAX);
    engine->later_bytes = both[1];
    oct_note("memory of rank 0: weights %.1f MB, KV cache %.1f MB, buffers %.1f MB; largest rank %.1f MB",
             (double)sizes.weights * 1e-6, (double)sizes.kv_cache * 1e-6, (double)sizes.buffers * 1e-6,
             (double)both[0] * 1e-6);
    return check_memory(engine, own, both[0]);
}
