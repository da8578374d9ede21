// `octet generate`: one prompt streamed to stdout, or a file of requests answered many at once.
#include "launch/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "launch/answer.h"
#include "launch/batch.h"
#include "launch/prompt.h"

static oct_status print_result(const oct_session *session, const oct_answer *answer)
{
    if (session->options.token_ids)
        for (size_t i = 0; i < answer->tokens.count; i++)
            printf("%s%d", i == 0 ? "" : " ", answer->tokens.ids[i]);
    putchar('\n');
    if (fflush(stdout) != 0 || ferror(stdout))
        return oct_fail(OCT_ERR_FILE, "the answer cannot be written to stdout: %s", strerror(errno));
    return OCT_OK;
}

static oct_status answer_prompt(oct_session *session, const oct_token_list *prompt)
{
    const oct_options *options = &session->options;
    oct_sampling sampling;
    oct_answer answer = {0};
    oct_status status = oct_session_sampling(session, &sampling);
    if (status == OCT_OK) {
        const oct_question question = {
            .prompt = prompt->ids,
            .prompt_tokens = (int32_t)prompt->count,
            .sampling = &sampling,
            .max_tokens = (int32_t)options->max_tokens,
            .stops = options->stops,
            .stop_count = options->stop_count,
            .ignore_eos = options->ignore_eos,
            .on_text = options->token_ids || session->records ? NULL : oct_answer_print,
        };
        status = oct_answer_make(&answer, session, &question);
    }
    if (status == OCT_OK)
        status = oct_figures_add(&session->figures, 0, &answer);
    if (status == OCT_OK && !session->records)
        status = print_result(session, &answer);
    oct_answer_free(&answer);
    return status;
}

static oct_status read_prompt(oct_session *session, oct_token_list *prompt)
{
    char *text = NULL;
    size_t bytes = 0;
    oct_status status = oct_prompt_read(session->options.prompt, &text, &bytes);
    if (status == OCT_OK)
        status = session->options.chat ? oct_session_encode_user(session, text, prompt)
                                       : oct_session_encode_text(session, text, bytes, prompt);
    free(text);
    return status;
}

static oct_status answer_all(oct_session *session, const oct_token_list *prompt)
{
    return session->options.prompts != NULL ? oct_batch_run(session) : answer_prompt(session, prompt);
}

static oct_status generate(oct_session *session)
{
    oct_token_list prompt = {0};
    oct_status status = oct_figures_probe(&session->figures, session->engine);
    if (status == OCT_OK && session->options.prompt != NULL)
        status = read_prompt(session, &prompt);
    if (status == OCT_OK && session->records) {
        status = answer_all(session, &prompt);
        if (status == OCT_OK)
            status = oct_session_replay(session);
    }
    if (status == OCT_OK)
        status = answer_all(session, &prompt);
    oct_token_list_free(&prompt);
    const oct_status probed =
        oct_session_can_go_on(session, status) ? oct_figures_probe(&session->figures, session->engine) : OCT_OK;
    return status != OCT_OK ? status : probed;
}

int oct_command_generate(int argc, char **argv)
{
    return oct_session_run(OCT_COMMAND_GENERATE, argc, argv, generate);
}
