// Sessions: the frame around the work of rank 0.
#include "launch/session.h"

#include <stdlib.h>
#include <string.h>

#include "ranks/launch_check.h"

// The option table has checked the words.
static int32_t index_of(const char *word, const char *const *words)
{
    int32_t i = 0;
    while (words[i] != NULL && strcmp(word, words[i]) != 0)
        i++;
    return i;
}

static oct_engine_options engine_options(const oct_options *options)
{
    static const char *const instructions[] = {"auto", "scalar", "avx2", "avx512", NULL};
    static const char *const exchanges[] = {"auto", "memory", "mpi", NULL};
    return (oct_engine_options){
        .threads = (int32_t)options->threads,
        .instructions = index_of(options->instructions, instructions) - 1,
        .fp32_activations = strcmp(options->activations, "fp32") == 0,
        .context = (int32_t)options->context,
        .prefill_chunk = (int32_t)options->prefill_chunk,
        .exchange = (oct_exchange_path)index_of(options->exchange, exchanges),
    };
}

oct_status oct_session_open_engine(oct_session *session, const char *path, oct_engine **engine)
{
    const oct_engine_options options = engine_options(&session->options);
    return oct_engine_open(engine, &session->world, path, &options);
}

static oct_status open_tokenizer(oct_session *session)
{
    if (session->world.rank != 0)
        return OCT_OK;
    const oct_vocabulary *vocabulary = oct_engine_vocabulary(session->engine);
    const oct_status status = oct_tokenizer_create(&session->tokenizer, vocabulary);
    if (status != OCT_OK || !session->options.chat)
        return status;
    return oct_chat_template_recognise(&session->chat_template, vocabulary->chat_template);
}

static bool ends_at_once(oct_status status)
{
    return status == OCT_ERR_LOST || status == OCT_ERR_DISAGREE || status == OCT_ERR_INTERNAL;
}

static oct_status work_together(oct_session *session, oct_session_work work)
{
    oct_status status = oct_world_agree(&session->world, open_tokenizer(session));
    if (status != OCT_OK)
        return status;
    if (session->world.rank == 0) {
        status = work(session);
        if (ends_at_once(status))
            oct_world_abort(&session->world, status);
        const oct_status finished = oct_engine_finish(session->engine);
        if (finished != OCT_OK)
            oct_world_abort(&session->world, finished);
    } else {
        status = oct_engine_serve(session->engine);
        if (status != OCT_OK)
            oct_world_abort(&session->world, status);
    }
    oct_progress_phase(OCT_PHASE_FINISH);
    return oct_world_agree(&session->world, status);
}

int oct_session_run(oct_command command, int argc, char **argv, oct_session_work work)
{
    oct_session session = {0};
    oct_status status = oct_options_parse(&session.options, command, argc, argv);
    if (status != OCT_OK)
        return status;
    if (session.options.help) {
        if (oct_launch_read().rank == 0)
            oct_options_help(command, stdout);
        return OCT_OK;
    }
    if (session.options.verbose)
        oct_log_configure(OCT_VERBOSE);
    const oct_world_options world = session.options.deadline < 0
                                        ? oct_world_options_default()
                                        : oct_world_options_deadline(session.options.deadline);
    status = oct_world_init(&session.world, &world);
    if (status == OCT_OK)
        status = oct_session_open_engine(&session, session.options.operand, &session.engine);
    if (status == OCT_OK)
        status = work_together(&session, work);
    oct_chat_template_free(&session.chat_template);
    oct_tokenizer_destroy(session.tokenizer);
    oct_engine_close(session.engine);
    oct_world_finish(&session.world);
    return status;
}

oct_status oct_session_encode_text(oct_session *session, const char *text, oct_token_list *tokens)
{
    oct_status status = oct_tokenizer_encode(session->tokenizer, text, strlen(text),
                                             OCT_ENCODE_PARSE_SPECIAL | OCT_ENCODE_ADD_SPECIAL, tokens);
    if (status == OCT_OK && tokens->count == 0)
        status = oct_fail(OCT_ERR_USAGE, "the prompt is empty: give at least one character with -p");
    return status;
}

oct_status oct_session_encode_chat(oct_session *session, const oct_chat_message *messages, size_t count,
                                   oct_token_list *tokens)
{
    char *prompt = NULL;
    oct_status status = oct_chat_template_render(&session->chat_template, messages, count, true, &prompt);
    if (status != OCT_OK)
        return status;
    const unsigned flags =
        OCT_ENCODE_PARSE_SPECIAL | (session->chat_template.begins_with_bos ? OCT_ENCODE_ADD_BOS : 0u);
    status = oct_tokenizer_encode(session->tokenizer, prompt, strlen(prompt), flags, tokens);
    free(prompt);
    return status;
}

oct_status oct_session_sampling(const oct_session *session, oct_sampling *sampling)
{
    const oct_options *options = &session->options;
    *sampling = oct_sampling_default();
    sampling->seed = (uint64_t)options->seed;
    sampling->temperature = (float)options->temperature;
    sampling->top_k = (int32_t)options->top_k;
    sampling->top_p = (float)options->top_p;
    sampling->min_p = (float)options->min_p;
    sampling->repetition_penalty = (float)options->repetition_penalty;
    sampling->presence_penalty = (float)options->presence_penalty;
    sampling->frequency_penalty = (float)options->frequency_penalty;
    sampling->logprobs = (int32_t)options->logprobs;
    return oct_sampling_check(sampling, oct_engine_model(session->engine)->vocabulary);
}
