// The model families: each is one file family_<name>.c that writes the step program of its models.
#ifndef OCT_RUNTIME_FAMILIES_H
#define OCT_RUNTIME_FAMILIES_H

#include "runtime/step_program.h"

typedef struct oct_family {
    const char *name; // as oct_model.family
    void (*write)(oct_step_program *program); // adds the operations; the shard is already cut
} oct_family;

extern const oct_family oct_family_llama;
extern const oct_family oct_family_qwen2;
extern const oct_family oct_family_qwen3;

#endif
