// What comes of a step. Verification is plain equality: the choice behind a column is the token that plain decoding
// gives there, provided that all columns before it were right; so a draft is right where it equals the choice before
// it, and the first choice behind the right drafts is a token too.
#include "ranks/coordinator_state.h"

#include "runtime/progress.h"

// One more token; true where the sequence ends behind it, for *reason.
static bool gain(oct_sequence *sequence, const oct_choice *choice, oct_sequence_end *reason)
{
    sequence->tokens[sequence->count++] = choice->token;
    const bool stopped = sequence->request.on_token(sequence->request.context, choice);
    *reason = stopped ? OCT_SEQUENCE_STOPPED : OCT_SEQUENCE_FULL;
    return stopped || sequence->count == sequence->limit;
}

static void count_drafts(oct_coordinator_figures *figures, const oct_step_part *part, int32_t accepted)
{
    figures->drafted += part->draft_count;
    figures->accepted += accepted;
    for (int32_t i = 0; i < part->draft_count; i++) {
        figures->drafted_at[i]++;
        figures->accepted_at[i] += i < accepted;
        figures->drafted_by[part->drafts[i].source]++;
        figures->accepted_by[part->drafts[i].source] += i < accepted;
    }
}

// What was proposed and not verified counts too: so the controller sees where drafts get better that it leaves out.
static void learn(oct_controller *controller, const oct_step_part *part, const oct_choice *choices, int32_t gained)
{
    bool right = controller != NULL;
    for (int32_t i = 0; right && i < part->proposed && i < gained; i++) {
        right = part->drafts[i].token == choices[i].token;
        oct_controller_observe_draft(controller, &part->drafts[i], right);
    }
}

static oct_status append_draft(oct_coordinator *c, const oct_sequence *sequence, int32_t gained)
{
    oct_drafter *drafter = c->options.drafter;
    if (drafter == NULL || drafter->append == NULL || gained == 0)
        return OCT_OK;
    const int64_t begin = oct_now_ns();
    const oct_status status =
        drafter->append(drafter, sequence->slot, sequence->tokens + sequence->count - gained, gained);
    c->figures.draft_s += (double)(oct_now_ns() - begin) * 1e-9;
    return status;
}

static void end(oct_coordinator *c, oct_sequence *sequence, oct_sequence_end reason, oct_status status)
{
    const oct_sequence_request request = sequence->request;
    oct_coordinator_retire(c, sequence);
    request.on_end(request.context, reason, status);
}

static oct_status take_part(oct_coordinator *c, const oct_step_part *part, oct_step_report *report)
{
    oct_sequence *sequence = part->sequence;
    const oct_choice *choices = c->choices + part->first_choice;
    const bool first = sequence->count == sequence->request.prompt_tokens;
    oct_sequence_end reason = OCT_SEQUENCE_FULL;
    int32_t gained = 0;
    bool ended = false;
    oct_status failed = OCT_OK;
    while (gained < part->choices && !ended) {
        const oct_choice *choice = &choices[gained];
        failed = oct_engine_check_choice(choice, sequence->count);
        if (failed != OCT_OK) {
            reason = OCT_SEQUENCE_FAILED;
            ended = true;
            break;
        }
        ended = gain(sequence, choice, &reason);
        if (gained++ < part->draft_count && part->drafts[gained - 1].token != choice->token)
            break;
    }
    count_drafts(&c->figures, part, gained > 0 ? gained - 1 : 0);
    learn(c->options.controller, part, choices, gained);
    report->first_tokens += first && gained > 0;
    report->decoded_tokens += gained - (first && gained > 0);
    const oct_status status = append_draft(c, sequence, gained);
    if (status == OCT_OK && ended)
        end(c, sequence, reason, failed);
    else if (status == OCT_OK)
        oct_engine_truncate(c->engine, sequence->slot, sequence->count - 1);
    return status;
}

void oct_coordinator_time(oct_coordinator *c, const oct_step_report *report)
{
    int32_t drafts = 0;
    for (int32_t i = 0; i < c->part_count; i++)
        drafts += c->parts[i].draft_count;
    if (drafts > 0)
        c->figures.verify_s += report->engine_s;
    if (c->options.controller != NULL && report->prompt_columns == 0)
        oct_controller_observe_step(c->options.controller, report->columns, report->engine_s);
}

oct_status oct_coordinator_take(oct_coordinator *c, oct_step_report *report)
{
    oct_status status = OCT_OK;
    for (int32_t i = 0; status == OCT_OK && i < c->part_count; i++)
        report->attended += oct_sequence_length(c, c->parts[i].sequence);
    for (int32_t i = 0; status == OCT_OK && i < c->part_count; i++)
        if (c->parts[i].choices > 0)
            status = take_part(c, &c->parts[i], report);
    return status;
}
