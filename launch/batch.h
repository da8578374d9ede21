// `generate --prompts`: a file of requests, one JSON object a line, answered one after another.
#ifndef OCT_LAUNCH_BATCH_H
#define OCT_LAUNCH_BATCH_H

#include "launch/session.h"

// Answers every line of options.prompts to options.output or stdout. A line that is wrong gets an error object and
// the rest goes on; OCT_ERR_FILE comes back at the end then. Rank 0.
oct_status oct_batch_run(oct_session *session);

#endif
