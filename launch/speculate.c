// From a word of the command line to a drafter.
#include "launch/speculate.h"

#include <stdlib.h>
#include <string.h>

#include "ranks/drafter_model.h"
#include "ranks/drafter_synthetic.h"

// Of the index over finished sequences.
static const size_t finished_bytes = (size_t)64 << 20;

oct_status oct_speculation_parse(oct_speculation *speculation, const char *text)
{
    static const char synthetic[] = "synthetic:", model[] = "draft=";
    const bool suffix = strcmp(text, "suffix") == 0, chosen = strcmp(text, "auto") == 0;
    *speculation = (oct_speculation){.kind = suffix   ? OCT_SPECULATE_SUFFIX
                                             : chosen ? OCT_SPECULATE_AUTO
                                                      : OCT_SPECULATE_OFF};
    if (suffix || chosen || strcmp(text, "off") == 0)
        return OCT_OK;
    if (strncmp(text, model, strlen(model)) == 0 && text[strlen(model)] != '\0') {
        *speculation = (oct_speculation){.kind = OCT_SPECULATE_MODEL, .path = text + strlen(model)};
        return OCT_OK;
    }
    if (strncmp(text, synthetic, strlen(synthetic)) == 0) {
        char *end;
        const char *number = text + strlen(synthetic);
        speculation->kind = OCT_SPECULATE_SYNTHETIC;
        speculation->probability = strtod(number, &end);
        if (end != number && *end == '\0' && speculation->probability >= 0 && speculation->probability <= 1)
            return OCT_OK;
    }
    return oct_fail(OCT_ERR_USAGE,
                    "--speculate is \"%s\", expected off, suffix, auto, draft=MODEL.h5 or synthetic:P (P from 0 to 1)",
                    text);
}

oct_status oct_speculation_start(const oct_speculation *speculation, oct_engine *engine, oct_engine *second,
                                 oct_drafter **drafter)
{
    const oct_engine_figures *figures = oct_engine_read_figures(engine);
    const int32_t vocabulary = oct_engine_model(engine)->vocabulary;
    *drafter = NULL;
    switch (speculation->kind) {
    case OCT_SPECULATE_OFF:
        break;
    case OCT_SPECULATE_SUFFIX:
    case OCT_SPECULATE_AUTO:
        return oct_drafter_suffix_create(drafter, figures->slots, figures->context, vocabulary, finished_bytes);
    case OCT_SPECULATE_MODEL:
        return oct_drafter_model_create(drafter, engine, second);
    case OCT_SPECULATE_SYNTHETIC:
        return oct_drafter_synthetic_create(drafter, figures->slots, vocabulary, speculation->probability);
    }
    return OCT_OK;
}

oct_status oct_speculation_control(const oct_speculation *speculation, const oct_engine *engine, int32_t draft_tokens,
                                   oct_controller **controller)
{
    *controller = NULL;
    if (speculation->kind != OCT_SPECULATE_AUTO || draft_tokens == 0)
        return OCT_OK;
    return oct_controller_create(controller, oct_engine_read_figures(engine)->slots, draft_tokens);
}
