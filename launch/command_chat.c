// `octet chat`: a conversation on rank 0's terminal. The KV cache keeps what was said; each turn adds its tokens.
#include "launch/commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch/answer.h"

typedef struct conversation {
    oct_session *session;
    oct_chat_message *messages; // [count], contents owned
    size_t count;
    int64_t turns; // answered
} conversation;

static oct_status say(conversation *talk, const char *role, const char *content)
{
    oct_chat_message *grown = realloc(talk->messages, (talk->count + 1) * sizeof *grown);
    char *copy = strdup(content);
    if (grown != NULL)
        talk->messages = grown;
    if (grown == NULL || copy == NULL) {
        free(copy);
        return oct_fail(OCT_ERR_MACHINE, "no memory for the conversation");
    }
    talk->messages[talk->count++] = (oct_chat_message){.role = role, .content = copy};
    return OCT_OK;
}

static oct_status end_line(void)
{
    putchar('\n');
    if (fflush(stdout) != 0 || ferror(stdout))
        return oct_fail(OCT_ERR_FILE, "the answer cannot be written to stdout: %s", strerror(errno));
    return OCT_OK;
}

// Forgets the oldest question and its answer; false where there is only the question at hand.
static bool forget_oldest(conversation *talk)
{
    const size_t first = strcmp(talk->messages[0].role, "system") == 0 ? 1 : 0;
    if (talk->count < first + 3)
        return false;
    free((char *)talk->messages[first].content);
    free((char *)talk->messages[first + 1].content);
    talk->count -= 2;
    memmove(talk->messages + first, talk->messages + first + 2, (talk->count - first) * sizeof *talk->messages);
    return true;
}

// Tokens of the conversation, without the oldest turns where it has outgrown the context (a quarter of it is kept for
// the answer, or -n).
static oct_status encode_conversation(conversation *talk, oct_token_list *tokens)
{
    const int64_t context = oct_engine_read_figures(talk->session->engine)->context;
    const int64_t wanted = talk->session->options.max_tokens;
    const int64_t room = context - (wanted < context / 4 ? wanted : context / 4);
    for (bool told = false;; told = true) {
        tokens->count = 0;
        const oct_status status = oct_session_encode_chat(talk->session, talk->messages, talk->count, tokens);
        if (status != OCT_OK || (int64_t)tokens->count <= room || !forget_oldest(talk))
            return status;
        if (!told)
            oct_warn("the conversation has outgrown the context of %lld tokens: the oldest turns are forgotten",
                     (long long)context);
    }
}

// One turn: the whole conversation is rendered again; as far as the KV cache has it, it is not computed again.
static oct_status answer_turn(conversation *talk)
{
    oct_session *session = talk->session;
    const oct_options *options = &session->options;
    oct_token_list tokens = {0};
    oct_answer answer = {0};
    oct_sampling sampling;
    oct_status status = oct_session_sampling(session, &sampling);
    if (status == OCT_OK)
        status = encode_conversation(talk, &tokens);
    if (status == OCT_OK) {
        const oct_question question = {.number = talk->turns,
                                       .prompt = tokens.ids,
                                       .prompt_tokens = (int32_t)tokens.count,
                                       .sampling = &sampling,
                                       .max_tokens = (int32_t)options->max_tokens,
                                       .stops = options->stops,
                                       .stop_count = options->stop_count,
                                       .on_text = oct_answer_print};
        status = oct_answer_make(&answer, session, &question);
    }
    if (status == OCT_OK)
        status = oct_figures_add(&session->figures, talk->turns++, &answer);
    if (status == OCT_OK)
        status = say(talk, "assistant", answer.text);
    if (status == OCT_OK)
        status = end_line();
    oct_token_list_free(&tokens);
    oct_answer_free(&answer);
    return status;
}

// A question that cannot be asked (longer than the context): say so and stay at the prompt.
static oct_status take_back(conversation *talk)
{
    oct_warn("%s", oct_failure_text());
    oct_failure_clear();
    free((char *)talk->messages[--talk->count].content);
    return OCT_OK;
}

static oct_status converse(conversation *talk)
{
    const bool terminal = isatty(0);
    char *line = NULL;
    size_t capacity = 0;
    oct_status status = OCT_OK;
    if (talk->session->options.system != NULL)
        status = say(talk, "system", talk->session->options.system);
    while (status == OCT_OK) {
        status = oct_engine_idle(talk->session->engine);
        if (terminal)
            fprintf(stderr, "> ");
        ssize_t length = status == OCT_OK ? getline(&line, &capacity, stdin) : -1;
        if (length < 0)
            break;
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
            line[--length] = '\0';
        if (length == 0)
            continue;
        if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0)
            break;
        status = say(talk, "user", line);
        if (status == OCT_OK)
            status = answer_turn(talk);
        if (status == OCT_ERR_USAGE && oct_session_can_go_on(talk->session, status))
            status = take_back(talk);
    }
    free(line);
    return status;
}

static oct_status chat(oct_session *session)
{
    conversation talk = {.session = session};
    oct_status status = oct_figures_probe(&session->figures, session->engine);
    if (status == OCT_OK && isatty(0))
        fprintf(stderr, "octet: an empty line is ignored; end with /exit or Ctrl-D\n");
    if (status == OCT_OK)
        status = converse(&talk);
    for (size_t i = 0; i < talk.count; i++)
        free((char *)talk.messages[i].content);
    free(talk.messages);
    return status;
}

int oct_command_chat(int argc, char **argv)
{
    return oct_session_run(OCT_COMMAND_CHAT, argc, argv, chat);
}
