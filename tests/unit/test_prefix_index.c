// The index of prefixes against a list that is searched from end to end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/prefix_index.h"

enum { PAGES = 50, KINDS = 6 };

static uint32_t random_state = 11;

static int32_t random_below(int32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (int32_t)((random_state >> 8) % (uint32_t)n);
}

// Pages of tokens that differ in one token alone, near the beginning or near the end. Enough kinds that some fall into
// one bucket.
static void make_tokens(int32_t kind, int32_t *tokens)
{
    for (int32_t i = 0; i < OCT_PREFIX_TOKENS; i++)
        tokens[i] = 1000 + i;
    if (kind > 0)
        tokens[kind % 2 == 0 ? kind / 2 : OCT_PREFIX_TOKENS - 1 - kind / 2] = 7;
}

typedef struct model {
    bool used[PAGES];
    int32_t parent[PAGES], kind[PAGES];
} model;

static int32_t model_find(const model *m, int32_t parent, int32_t kind)
{
    for (int32_t page = 0; page < PAGES; page++)
        if (m->used[page] && m->parent[page] == parent && m->kind[page] == kind)
            return page;
    return -1;
}

static bool has_children(const model *m, int32_t page)
{
    for (int32_t i = 0; i < PAGES; i++)
        if (m->used[i] && m->parent[i] == page)
            return true;
    return false;
}

static void check_all(const model *m, const oct_prefix_index *index)
{
    int32_t tokens[OCT_PREFIX_TOKENS];
    for (int32_t kind = 0; kind < KINDS; kind++) {
        make_tokens(kind, tokens);
        for (int32_t parent = OCT_PREFIX_ROOT; parent < PAGES; parent++)
            if (parent == OCT_PREFIX_ROOT || m->used[parent])
                assert_int_equal(oct_prefix_index_find(index, parent, tokens), model_find(m, parent, kind));
    }
    for (int32_t page = 0; page < PAGES; page++)
        assert_int_equal(oct_prefix_index_has(index, page), m->used[page]);
}

static void finds_what_a_list_finds(void **state)
{
    (void)state;
    static model m;
    oct_prefix_index index;
    assert_int_equal(oct_prefix_index_create(&index, PAGES), OCT_OK);
    int inserted = 0, removed = 0, deepest = 0;
    for (int round = 0; round < 20000; round++) {
        const int32_t page = random_below(PAGES), kind = random_below(KINDS);
        const int32_t parent = random_below(PAGES + 1) - 1;
        int32_t tokens[OCT_PREFIX_TOKENS], depth = 1;
        make_tokens(kind, tokens);
        if (m.used[page] && !has_children(&m, page) && random_below(2) == 0) {
            oct_prefix_index_remove(&index, page);
            m.used[page] = false;
            removed++;
        } else if (!m.used[page] && (parent == OCT_PREFIX_ROOT || m.used[parent]) && model_find(&m, parent, kind) < 0) {
            oct_prefix_index_insert(&index, page, parent, tokens);
            m.used[page] = true;
            m.parent[page] = parent;
            m.kind[page] = kind;
            for (int32_t p = parent; p != OCT_PREFIX_ROOT; p = m.parent[p])
                depth++;
            deepest = depth > deepest ? depth : deepest;
            inserted++;
        }
        if (round % 10 == 0)
            check_all(&m, &index);
    }
    assert_true(inserted > 1000 && removed > 1000 && deepest > 5);
    oct_prefix_index_destroy(&index);
}

static void an_empty_index_finds_nothing(void **state)
{
    (void)state;
    int32_t tokens[OCT_PREFIX_TOKENS] = {0};
    oct_prefix_index index;
    assert_int_equal(oct_prefix_index_create(&index, 0), OCT_OK);
    assert_int_equal(oct_prefix_index_find(&index, OCT_PREFIX_ROOT, tokens), -1);
    oct_prefix_index_destroy(&index);
    oct_prefix_index_destroy(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_a_list_finds),
        cmocka_unit_test(an_empty_index_finds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
