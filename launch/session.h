// A session: what generate, chat and score have in common. Every rank parses the same command line, joins the
// world and loads its shard; then rank 0 does the command's work while the others follow it.
#ifndef OCT_LAUNCH_SESSION_H
#define OCT_LAUNCH_SESSION_H

#include <limits.h>
#include <sched.h>

#include "launch/figures.h"
#include "launch/options.h"
#include "launch/speculate.h"
#include "ranks/coordinator.h"
#include "ranks/engine.h"
#include "runtime/chat_template.h"
#include "runtime/tokenizer.h"

typedef struct oct_session {
    oct_options options;
    oct_world world;
    oct_engine *engine;
    oct_engine *second;              // of --reference or --speculate draft=…, which takes turns with it; or NULL
    oct_coordinator *coordinator;    // rank 0 of generate and chat
    oct_drafter *drafter;            // rank 0, or NULL
    oct_controller *controller;      // rank 0 with --speculate auto, or NULL
    oct_speculation speculation;
    bool records;             // rank 0: this pass is plain, recorded by the synthetic drafter and shown to nobody
    oct_tokenizer *tokenizer; // rank 0
    size_t longest_piece_bytes; // of a token
    int64_t stepped_ns;         // when the last step ended, where there was more to do; otherwise 0
    oct_chat_template chat_template; // rank 0, where `--chat` or messages need it
    oct_figures figures;             // rank 0
    char synthetic[PATH_MAX];        // of --synthetic, until it is open
    cpu_set_t processors;            // that the launcher gave this rank, decoding cores or not; empty: not known
    FILE *stats;                     // rank 0: of `--stats`, opened before anything is loaded
} oct_session;

// The part of a command that rank 0 does. OCT_ERR_LOST, OCT_ERR_DISAGREE and OCT_ERR_INTERNAL end the job at once;
// with other statuses all ranks leave together.
typedef oct_status (*oct_session_work)(oct_session *session);

// Runs a command from its command line to its exit code. COLLECTIVE over the ranks of the launch.
int oct_session_run(oct_command command, int argc, char **argv, oct_session_work work);

// Tokenizes a prompt: plain text, any bytes; or the messages of a chat through the model's template, terminated. Rank
// 0. Errors: OCT_ERR_USAGE (nothing to decode; messages that the template refuses), OCT_ERR_MACHINE (memory).
oct_status oct_session_encode_text(oct_session *session, const char *text, size_t bytes, oct_token_list *tokens);
oct_status oct_session_encode_user(oct_session *session, const char *text, oct_token_list *tokens);
oct_status oct_session_encode_chat(oct_session *session, const oct_chat_message *messages, size_t count,
                                   oct_token_list *tokens);

// One step of the coordinator, which must not be idle, into the figures. Rank 0. Errors: the engine's; OCT_ERR_MACHINE.
oct_status oct_session_step(oct_session *session);

// The plain pass of synthetic speculation is over: from now on its tokens are proposed, and figures count. Rank 0.
// Errors: OCT_ERR_MACHINE, OCT_ERR_LOST.
oct_status oct_session_replay(oct_session *session);

// False where the job can only end at once: a step has failed, a rank is lost, ranks disagree.
bool oct_session_can_go_on(const oct_session *session, oct_status status);

// The sampling parameters of the command line, checked. Rank 0.
oct_status oct_session_sampling(const oct_session *session, oct_sampling *sampling);

#endif
