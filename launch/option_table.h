// The table behind launch/options.h; for options.c alone.
#ifndef OCT_LAUNCH_OPTION_TABLE_H
#define OCT_LAUNCH_OPTION_TABLE_H

#include "launch/options.h"

typedef enum oct_option_kind {
    OCT_OPTION_FLAG,   // bool, no argument
    OCT_OPTION_WHOLE,  // int64_t, suffixes allowed
    OCT_OPTION_NUMBER, // double
    OCT_OPTION_TEXT,   // const char *, not empty
    OCT_OPTION_CHOICE, // const char *, one of the words of `argument`, separated by |
    OCT_OPTION_LIST,   // oct_number_list
    OCT_OPTION_STOPS   // appended to stops
} oct_option_kind;

typedef struct oct_option_row {
    unsigned commands; // bit of each command that has it
    char letter;       // short form, or 0
    const char *name, *argument;
    oct_option_kind kind;
    size_t offset;           // of the field in oct_options
    double minimum, maximum; // of numbers
    const char *fallback;    // default, parsed like an argument; NULL: zero, false, none
    const char *text;        // with the unit where there is one
} oct_option_row;

typedef struct oct_command_row {
    const char *name, *usage, *summary;
} oct_command_row;

extern const oct_option_row oct_option_rows[];
extern const size_t oct_option_row_count;
extern const oct_command_row oct_command_rows[OCT_COMMAND_COUNT];

#endif
