// Pages that sequences share, against a naive model that knows every prefix by all of its tokens: what is shared is
// what the model knows, kept pages go in the model's order, and no position of a sequence ever changes under it.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/page_table.h"

enum { PAGES = 40, SLOTS = 5, SLOT_PAGES = 12, POSITIONS = SLOT_PAGES * OCT_PAGE_POSITIONS };

static uint32_t random_state = 23;

static int32_t random_below(int32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (int32_t)((random_state >> 8) % (uint32_t)n);
}

// A sealed page, known by its whole prefix.
typedef struct entry {
    bool used;
    int32_t pages; // of the prefix, this one included
    int32_t tokens[POSITIONS];
    int32_t holders;
    int64_t let_go; // when the last holder did
} entry;

typedef struct sequence {
    int32_t tokens[POSITIONS]; // what it begins with, and what will follow
    int32_t begun, positions, sealed;
    entry *entries[SLOT_PAGES]; // [sealed]
} sequence;

typedef struct model {
    oct_page_table table;
    entry entries[PAGES];
    sequence sequences[SLOTS];
    int32_t free; // pages that are no entry and nobody's
    int64_t clock;
    uint64_t written[PAGES][OCT_PAGE_POSITIONS]; // what stands at a position: a hash of the tokens up to it
    int shared, evicted, merged, full;
} model;

static bool has_prefix(const entry *e, const int32_t *tokens, int32_t pages)
{
    return e->used && e->pages == pages &&
           memcmp(e->tokens, tokens, sizeof(int32_t) * OCT_PAGE_POSITIONS * (size_t)pages) == 0;
}

static entry *find(model *m, const int32_t *tokens, int32_t pages)
{
    for (int32_t i = 0; i < PAGES; i++)
        if (has_prefix(&m->entries[i], tokens, pages))
            return &m->entries[i];
    return NULL;
}

static int32_t kept(const model *m)
{
    int32_t count = 0;
    for (int32_t i = 0; i < PAGES; i++)
        count += m->entries[i].used && m->entries[i].holders == 0;
    return count;
}

static void evict_oldest(model *m)
{
    entry *oldest = NULL;
    for (int32_t i = 0; i < PAGES; i++)
        if (m->entries[i].used && m->entries[i].holders == 0 &&
            (oldest == NULL || m->entries[i].let_go < oldest->let_go))
            oldest = &m->entries[i];
    assert_non_null(oldest);
    oldest->used = false;
    m->free++;
    m->evicted++;
}

static void cut(model *m, int32_t slot, int32_t positions)
{
    sequence *s = &m->sequences[slot];
    oct_page_table_truncate(&m->table, slot, positions);
    for (int32_t i = oct_page_count(s->positions); positions < s->positions && i > oct_page_count(positions); i--) {
        if (i > s->sealed) {
            m->free++;
        } else {
            entry *e = s->entries[--s->sealed];
            if (--e->holders == 0)
                e->let_go = m->clock++;
        }
    }
    s->positions = positions < s->positions ? positions : s->positions;
}

static void begin(model *m, int32_t slot)
{
    sequence *s = &m->sequences[slot];
    cut(m, slot, 0);
    for (int32_t i = 0, kind = 0; i < POSITIONS; i++) {
        kind = i % OCT_PAGE_POSITIONS == 0 ? random_below(8) < 5 ? 0 : random_below(3) : kind;
        s->tokens[i] = kind * 1000 + i % OCT_PAGE_POSITIONS; // the same page at other places, too
    }
    s->begun = random_below(POSITIONS);
    int32_t expected = 0, held = 0;
    while ((expected + 1) * OCT_PAGE_POSITIONS <= s->begun && find(m, s->tokens, expected + 1) != NULL)
        expected++;
    while (held < expected && find(m, s->tokens, held + 1)->holders > 0)
        held++;
    assert_int_equal(oct_page_table_held(&m->table, s->tokens, s->begun), held);
    const int32_t shared = oct_page_table_share(&m->table, slot, s->tokens, s->begun);
    assert_int_equal(shared, expected * OCT_PAGE_POSITIONS);
    for (s->sealed = 0; s->sealed < expected; s->sealed++) {
        s->entries[s->sealed] = find(m, s->tokens, s->sealed + 1);
        s->entries[s->sealed]->holders++;
    }
    s->positions = shared;
    m->shared += expected;
}

static void seal(model *m, sequence *s, int32_t positions)
{
    for (; (s->sealed + 1) * OCT_PAGE_POSITIONS <= positions; s->sealed++) {
        entry *e = find(m, s->tokens, s->sealed + 1);
        if (e != NULL) {
            m->free++;
            m->merged++;
        }
        for (int32_t i = 0; e == NULL; i++)
            if (!m->entries[i].used) {
                e = &m->entries[i];
                *e = (entry){.used = true, .pages = s->sealed + 1};
                memcpy(e->tokens, s->tokens, sizeof(int32_t) * OCT_PAGE_POSITIONS * (size_t)e->pages);
            }
        e->holders++;
        s->entries[s->sealed] = e;
    }
}

// A hash of the first `count` tokens (FNV-1a).
static uint64_t prefix_hash(const int32_t *tokens, int32_t count)
{
    uint64_t hash = 14695981039346656037u;
    for (int32_t i = 0; i < count; i++)
        hash = (hash ^ (uint64_t)tokens[i]) * 1099511628211u;
    return hash;
}

static void grow(model *m, int32_t slot, int32_t positions)
{
    sequence *s = &m->sequences[slot];
    const int32_t missing = oct_page_count(positions) - oct_page_count(s->positions);
    oct_failure_clear();
    const oct_status status = oct_page_table_reserve(&m->table, slot, positions);
    assert_int_equal(status, missing > m->free + kept(m) ? OCT_ERR_MACHINE : OCT_OK);
    m->full += status != OCT_OK;
    if (status != OCT_OK)
        return;
    while (m->free < missing)
        evict_oldest(m);
    m->free -= missing;
    const int32_t *pages = oct_page_table_slot(&m->table, slot);
    for (int32_t i = s->positions; i < positions; i++)
        m->written[pages[i / OCT_PAGE_POSITIONS]][i % OCT_PAGE_POSITIONS] = prefix_hash(s->tokens, i + 1);
    s->positions = positions;
    const int32_t known = positions < s->begun ? positions : s->begun;
    oct_page_table_seal(&m->table, slot, s->tokens, known);
    seal(m, s, known);
}

// To behind the sealed pages, or to a border of pages.
static void cut_somewhere(model *m, int32_t slot)
{
    const sequence *s = &m->sequences[slot];
    const int32_t sealed = s->sealed * OCT_PAGE_POSITIONS;
    if (random_below(4) == 0)
        cut(m, slot, OCT_PAGE_POSITIONS * random_below(SLOT_PAGES));
    else
        cut(m, slot, sealed + random_below(s->positions - sealed + 1));
}

// What a sequence has computed and where it lies, and how many pages there are to give out.
static void check(const model *m)
{
    for (int32_t slot = 0; slot < SLOTS; slot++) {
        const sequence *s = &m->sequences[slot];
        const int32_t *pages = oct_page_table_slot(&m->table, slot);
        assert_int_equal(m->table.positions[slot], s->positions);
        for (int32_t i = 0; i < SLOT_PAGES; i++) {
            assert_true((pages[i] >= 0) == (i < oct_page_count(s->positions)));
            if (pages[i] < 0)
                continue;
            const int32_t last =
                (i + 1) * OCT_PAGE_POSITIONS <= s->positions ? (i + 1) * OCT_PAGE_POSITIONS : s->positions;
            assert_int_equal(m->table.holders[pages[i]], i < s->sealed ? s->entries[i]->holders : 1);
            assert_true(m->written[pages[i]][(last - 1) % OCT_PAGE_POSITIONS] == prefix_hash(s->tokens, last));
            assert_true(m->written[pages[i]][0] == prefix_hash(s->tokens, i * OCT_PAGE_POSITIONS + 1));
        }
    }
    assert_int_equal(m->table.free_count, m->free);
    assert_int_equal(m->table.kept_count, kept(m));
}

static void shares_what_a_naive_model_shares(void **state)
{
    (void)state;
    static model m = {.free = PAGES};
    assert_int_equal(oct_page_table_create(&m.table, PAGES, SLOTS, POSITIONS), OCT_OK);
    for (int round = 0; round < 40000; round++) {
        const int32_t slot = random_below(SLOTS), positions = m.sequences[slot].positions;
        const int32_t longest = POSITIONS - positions < 200 ? POSITIONS - positions : 200;
        switch (random_below(8)) {
        case 0:
            begin(&m, slot);
            break;
        case 1:
            cut_somewhere(&m, slot);
            break;
        case 2: // rarely to its end, so that pages run out
            cut(&m, slot, random_below(3) == 0 ? 0 : POSITIONS);
            break;
        default:
            grow(&m, slot, positions + random_below(longest + 1));
        }
        check(&m);
    }
    print_message("pages shared %d, merged %d, evicted %d; pool full %d times\n", m.shared, m.merged, m.evicted,
                  m.full);
    assert_true(m.shared > 1000 && m.merged > 1000 && m.evicted > 1000 && m.full > 100);
    for (int32_t slot = 0; slot < SLOTS; slot++)
        cut(&m, slot, 0);
    check(&m);
    assert_int_equal(oct_page_table_available(&m.table), PAGES);
    oct_failure_clear();
    oct_page_table_destroy(&m.table);
}

// Two tables that get the same calls give the same pages, whatever their addresses.
static void tables_with_the_same_calls_are_the_same(void **state)
{
    (void)state;
    oct_page_table tables[2];
    int32_t tokens[POSITIONS];
    for (int t = 0; t < 2; t++)
        assert_int_equal(oct_page_table_create(&tables[t], PAGES, SLOTS, POSITIONS), OCT_OK);
    for (int round = 0; round < 2000; round++) {
        const int32_t slot = random_below(SLOTS), count = 1 + random_below(POSITIONS), kind = random_below(3);
        for (int32_t i = 0; i < count; i++)
            tokens[i] = i < count / 2 ? 5 : kind;
        for (int t = 0; t < 2; t++) {
            oct_page_table_truncate(&tables[t], slot, 0);
            oct_page_table_share(&tables[t], slot, tokens, count - 1);
            oct_failure_clear();
            if (oct_page_table_reserve(&tables[t], slot, count) == OCT_OK)
                oct_page_table_seal(&tables[t], slot, tokens, count);
        }
        assert_memory_equal(oct_page_table_slot(&tables[0], slot), oct_page_table_slot(&tables[1], slot),
                            sizeof(int32_t) * SLOT_PAGES);
    }
    oct_failure_clear();
    for (int t = 0; t < 2; t++)
        oct_page_table_destroy(&tables[t]);
}

// A cut inside a sealed page ends the process, in debug and release alike.
static void a_cut_inside_a_sealed_page_is_refused(void **state)
{
    (void)state;
    int32_t tokens[POSITIONS] = {0};
    oct_page_table table;
    assert_int_equal(oct_page_table_create(&table, PAGES, SLOTS, POSITIONS), OCT_OK);
    assert_int_equal(oct_page_table_reserve(&table, 0, 200), OCT_OK);
    oct_page_table_seal(&table, 0, tokens, 150);
    oct_page_table_truncate(&table, 0, 130);
    const pid_t child = fork();
    if (child == 0) {
        fclose(stderr);
        signal(SIGABRT, SIG_DFL);
        oct_page_table_truncate(&table, 0, 127);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    oct_page_table_truncate(&table, 0, 128);
    oct_page_table_truncate(&table, 0, 64);
    assert_int_equal(oct_page_table_share(&table, 1, tokens, 200), 128);
    oct_page_table_destroy(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_what_a_naive_model_shares),
        cmocka_unit_test(tables_with_the_same_calls_are_the_same),
        cmocka_unit_test(a_cut_inside_a_sealed_page_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
