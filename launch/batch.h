// `generate --prompts`: requests, one JSON object a line, answered as many at once as the engine has slots.
#ifndef OCT_LAUNCH_BATCH_H
#define OCT_LAUNCH_BATCH_H

#include "launch/session.h"

// Answers every line of options.prompts to options.output or stdout, in the order in which they end. A line that is
// wrong gets an error object and the rest goes on; OCT_ERR_FILE comes back at the end then. Where the session records,
// nothing is written. Rank 0.
oct_status oct_batch_run(oct_session *session);

#endif
