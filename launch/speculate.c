// From a word of the command line to a drafter.
#include "launch/speculate.h"

#include <stdlib.h>
#include <string.h>

#include "ranks/drafter_synthetic.h"

oct_status oct_speculation_parse(oct_speculation *speculation, const char *text)
{
    static const char synthetic[] = "synthetic:";
    *speculation = (oct_speculation){.kind = OCT_SPECULATE_OFF};
    if (strcmp(text, "off") == 0)
        return OCT_OK;
    if (strncmp(text, synthetic, strlen(synthetic)) == 0) {
        char *end;
        const char *number = text + strlen(synthetic);
        speculation->kind = OCT_SPECULATE_SYNTHETIC;
        speculation->probability = strtod(number, &end);
        if (end != number && *end == '\0' && speculation->probability >= 0 && speculation->probability <= 1)
            return OCT_OK;
    }
    return oct_fail(OCT_ERR_USAGE, "--speculate is \"%s\", expected off or synthetic:P (P from 0 to 1)", text);
}

oct_status oct_speculation_start(const oct_speculation *speculation, const oct_engine *engine, oct_drafter **drafter)
{
    *drafter = NULL;
    switch (speculation->kind) {
    case OCT_SPECULATE_OFF:
        break;
    case OCT_SPECULATE_SYNTHETIC:
        return oct_drafter_synthetic_create(drafter, oct_engine_read_figures(engine)->slots,
                                            oct_engine_model(engine)->vocabulary, speculation->probability);
    }
    return OCT_OK;
}
