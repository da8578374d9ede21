// What a request becomes in a session: its text tokens, the command line's options sampling parameters.
#include "launch/session.h"

#include <stdlib.h>
#include <string.h>

oct_status oct_session_encode_text(oct_session *session, const char *text, size_t bytes, oct_token_list *tokens)
{
    oct_status status = oct_tokenizer_encode(session->tokenizer, text, bytes,
                                             OCT_ENCODE_PARSE_SPECIAL | OCT_ENCODE_ADD_SPECIAL, tokens);
    if (status == OCT_OK && tokens->count == 0)
        status = oct_fail(OCT_ERR_USAGE, "the prompt is empty; expected at least one character");
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

oct_status oct_session_encode_user(oct_session *session, const char *text, oct_token_list *tokens)
{
    const oct_chat_message messages[] = {{"system", session->options.system}, {"user", text}};
    const size_t first = session->options.system == NULL ? 1 : 0;
    return oct_session_encode_chat(session, messages + first, 2 - first, tokens);
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
