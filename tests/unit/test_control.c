// Control messages: what is packed is parsed again, and nothing else; and the channel: every rank gets every message
// whole and in order, short and long ones, whatever carries them and however far rank 0 is ahead. With one rank as a
// unit test; with several, and with a rank that dies, by tests/integration/check-control:
//     test_control ucx|mpi|auto [lose]
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ranks/control_message.h"
#include "ranks/world.h"

enum { MESSAGES = 3000, COLUMNS = 5000, SLOTS = 4, MOST_CUTS = OCT_CONTROL_CUTS * SLOTS, LOSS_S = 5 };

static oct_world world;
static oct_control_path path = OCT_CONTROL_AUTO;
static const oct_control_limits limits = {.slots = SLOTS, .columns = COLUMNS, .vocabulary = 1000, .context = 256};

// A message and its bytes; a payload of any kind fits.
static uint8_t *message, *payload;

static uint64_t random_number(uint64_t *state) // xorshift64 (Marsaglia, Xorshift RNGs, 2003)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static void make_cuts(uint64_t number, int32_t count, oct_control_cut *cuts)
{
    for (int32_t i = 0; i < count; i++)
        cuts[i] = (oct_control_cut){.slot = (i + (int32_t)number) % 4, .length = (i * 50 + (int32_t)number) % 257};
}

// A step whose columns and cuts depend on its number only; mostly one column, now and then as many as there may be.
static size_t make_step(uint64_t number, void *out)
{
    uint64_t state = number * 0x9e3779b97f4a7c15u + 1;
    oct_control_step *step = out;
    const uint64_t size = random_number(&state) % 64;
    step->count = size == 0 ? COLUMNS : size < 8 ? 1 + (int32_t)(random_number(&state) % COLUMNS) : 1;
    for (int32_t i = 0; i < step->count; i++)
        step->columns[i] = (oct_control_column){.token = (int32_t)(random_number(&state) % 1000),
                                                .slot = i % 4,
                                                .want = i % 3,
                                                .prompt = i % 2};
    step->cut_count = (int32_t)(random_number(&state) % (MOST_CUTS + 1));
    make_cuts(number, step->cut_count, oct_control_step_cuts(step));
    return oct_control_step_bytes(step->count, step->cut_count);
}

// The payload of a message that depends on its number only: a step, but for every tenth.
static size_t make_message(uint64_t number, oct_control_kind *kind, void *out)
{
    *kind = number % 10 == 0 ? OCT_CONTROL_IDLE : number % 10 == 1 ? OCT_CONTROL_SEQUENCE : OCT_CONTROL_STEP;
    if (*kind == OCT_CONTROL_STEP)
        return make_step(number, out);
    if (*kind == OCT_CONTROL_IDLE)
        return 0;
    oct_control_sequence *begun = memset(out, 0, sizeof *begun); // padding is compared too
    begun->slot = (int32_t)(number % 4);
    begun->sampling.top_p = begun->sampling.repetition_penalty = 1;
    begun->sampling.seed = number;
    begun->count = (int32_t)(number % 257); // up to the whole context
    begun->prompt_count = begun->count / 2;
    for (int32_t i = 0; i < begun->count; i++)
        begun->tokens[i] = (i + (int32_t)number) % 1000;
    begun->cut_count = (int32_t)(number / 10 % (MOST_CUTS + 1));
    make_cuts(number, begun->cut_count, oct_control_sequence_cuts(begun));
    return oct_control_sequence_bytes(begun->count, begun->cut_count);
}

static oct_status parse(size_t bytes, uint64_t sequence)
{
    oct_control_kind kind;
    const void *found;
    size_t found_bytes;
    oct_failure_clear();
    return oct_control_parse(message, bytes, &limits, sequence, &kind, &found, &found_bytes);
}

static size_t pack(oct_control_kind kind, const void *content, size_t bytes)
{
    size_t message_bytes;
    assert_int_equal(oct_control_pack(message, &message_bytes, &limits, 5, kind, content, bytes), OCT_OK);
    return message_bytes;
}

static void what_is_packed_is_parsed(void **state)
{
    (void)state;
    for (uint64_t number = 1; number < 200; number++) {
        oct_control_kind kind, found_kind;
        const void *found;
        size_t found_bytes;
        const size_t bytes = make_message(number, &kind, payload);
        const size_t message_bytes = pack(kind, payload, bytes);
        assert_int_equal(oct_control_parse(message, message_bytes, &limits, 5, &found_kind, &found, &found_bytes),
                         OCT_OK);
        assert_int_equal(found_kind, kind);
        assert_int_equal(found_bytes, bytes);
        assert_memory_equal(found, payload, bytes);
    }
    assert_int_equal(oct_control_pack(message, &(size_t){0}, &limits, 5, OCT_CONTROL_STEP, payload,
                                      oct_control_message_bytes(&limits)),
                     OCT_ERR_INTERNAL);
}

static void refuse(size_t bytes)
{
    assert_int_equal(parse(bytes, 5), OCT_ERR_INTERNAL);
    assert_true(oct_failure_text()[0] != '\0');
}

static void other_lengths_and_numbers_are_refused(void **state)
{
    (void)state;
    const size_t bytes = pack(OCT_CONTROL_STEP, payload, make_step(3, payload));
    assert_int_equal(parse(bytes, 5), OCT_OK);
    assert_int_equal(parse(bytes, 4), OCT_ERR_INTERNAL);
    refuse(0);
    refuse(sizeof(oct_control_header) - 1);
    refuse(sizeof(oct_control_header));
    refuse(bytes - 1);
    refuse(bytes + 1);
    ((oct_control_header *)message)->kind = OCT_CONTROL_FINISH + 1;
    refuse(bytes);
    ((oct_control_header *)message)->kind = -1;
    refuse(bytes);
    ((oct_control_header *)message)->kind = OCT_CONTROL_IDLE;
    refuse(bytes);
    refuse(pack(OCT_CONTROL_STEP, payload, 0));
}

// Sets one field of a step of one column and expects that it is refused.
static void refuse_column(oct_control_column column)
{
    oct_control_step *step = (oct_control_step *)payload;
    *step = (oct_control_step){.count = 1};
    step->columns[0] = column;
    refuse(pack(OCT_CONTROL_STEP, step, oct_control_step_bytes(1, 0)));
}

// A cut behind the tokens of a sequence and behind the columns of a step: right, and with one field wrong.
static void what_is_wrong_with_a_cut_is_refused(void)
{
    const oct_control_cut cuts[] = {
        {.slot = 3, .length = 256}, {.slot = 4}, {.slot = -1}, {.length = -1}, {.length = 257}};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        const oct_status expected = i == 0 ? OCT_OK : OCT_ERR_INTERNAL;
        oct_control_step *step = (oct_control_step *)payload;
        *step = (oct_control_step){.count = 1, .cut_count = 2};
        step->columns[0] = (oct_control_column){0};
        oct_control_step_cuts(step)[0] = cuts[0];
        oct_control_step_cuts(step)[1] = cuts[i];
        assert_int_equal(parse(pack(OCT_CONTROL_STEP, step, oct_control_step_bytes(1, 2)), 5), expected);
        oct_control_sequence *begun = (oct_control_sequence *)payload;
        *begun = (oct_control_sequence){.count = 3, .cut_count = 1, .sampling = oct_sampling_default()};
        memset(begun->tokens, 0, 3 * sizeof *begun->tokens);
        oct_control_sequence_cuts(begun)[0] = cuts[i];
        assert_int_equal(parse(pack(OCT_CONTROL_SEQUENCE, begun, oct_control_sequence_bytes(3, 1)), 5), expected);
    }
    const int32_t counts[] = {-1, 0, 2, MOST_CUTS + 1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        oct_control_step *step = (oct_control_step *)payload;
        *step = (oct_control_step){.count = 1, .cut_count = counts[i]};
        refuse(pack(OCT_CONTROL_STEP, step, oct_control_step_bytes(1, 1)));
        oct_control_sequence *begun = (oct_control_sequence *)payload;
        *begun = (oct_control_sequence){.cut_count = counts[i], .sampling = oct_sampling_default()};
        refuse(pack(OCT_CONTROL_SEQUENCE, begun, oct_control_sequence_bytes(0, 1)));
    }
}

// Sends a sequence of three tokens and expects that it is refused.
static void refuse_sequence(const oct_control_sequence *begun, int32_t token)
{
    const size_t bytes = oct_control_sequence_bytes(3, 0);
    oct_control_sequence *sent = memset(payload, 0, bytes);
    *sent = *begun;
    sent->tokens[2] = token;
    refuse(pack(OCT_CONTROL_SEQUENCE, sent, bytes));
}

static void what_is_wrong_with_a_sequence_is_refused(void)
{
    const oct_control_sequence right = {.slot = 3, .count = 3, .prompt_count = 3, .sampling = oct_sampling_default()};
    oct_control_sequence wrong = right;
    refuse_sequence(&right, 1000);
    refuse_sequence(&right, -1);
    wrong.slot = 4;
    refuse_sequence(&wrong, 0);
    for (int32_t count = -1; count <= 258; count++) {
        wrong = right;
        wrong.count = count;
        wrong.prompt_count = 0;
        if (count != 3)
            refuse_sequence(&wrong, 0);
    }
    wrong = right;
    wrong.prompt_count = 4;
    refuse_sequence(&wrong, 0);
    wrong.prompt_count = -1;
    refuse_sequence(&wrong, 0);
    wrong = right;
    wrong.sampling.bias_count = OCT_MAX_LOGIT_BIASES + 1;
    refuse_sequence(&wrong, 0);
    wrong.sampling.bias_count = 1;
    wrong.sampling.biases[0].token = 1000;
    refuse_sequence(&wrong, 0);
    refuse(pack(OCT_CONTROL_SEQUENCE, &right, sizeof right - 8));
}

static void what_is_out_of_range_is_refused(void **state)
{
    (void)state;
    oct_control_step *step = (oct_control_step *)payload;
    refuse_column((oct_control_column){.token = -1});
    refuse_column((oct_control_column){.token = 1000});
    refuse_column((oct_control_column){.slot = -1});
    refuse_column((oct_control_column){.slot = 4});
    refuse_column((oct_control_column){.want = -1});
    refuse_column((oct_control_column){.want = OCT_WANT_LOGITS + 1});
    refuse_column((oct_control_column){.prompt = 2});
    const int32_t counts[] = {0, -1, 2, COLUMNS + 1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        *step = (oct_control_step){.count = counts[i]};
        step->columns[0] = (oct_control_column){0};
        refuse(pack(OCT_CONTROL_STEP, step, oct_control_step_bytes(1, 0)));
    }
    refuse(pack(OCT_CONTROL_LOGITS, &(int32_t){COLUMNS}, sizeof(int32_t)));
    refuse(pack(OCT_CONTROL_LOGITS, &(int32_t){-1}, sizeof(int32_t)));
    refuse(pack(OCT_CONTROL_TOUCH, &(int64_t){257}, sizeof(int64_t)));
    what_is_wrong_with_a_sequence_is_refused();
    what_is_wrong_with_a_cut_is_refused();
}

static void send_or_receive(oct_control *control, uint64_t number)
{
    oct_control_kind kind, found_kind;
    const size_t bytes = make_message(number, &kind, payload);
    if (world.rank == 0) {
        if (oct_control_send(control, kind, payload, bytes) != OCT_OK)
            fail_msg("message %llu: %s", (unsigned long long)number, oct_failure_text());
        memset(payload, 0xee, bytes); // it may be changed
        return;
    }
    const void *found;
    size_t found_bytes;
    if (oct_control_receive(control, &found_kind, &found, &found_bytes) != OCT_OK)
        fail_msg("message %llu: %s", (unsigned long long)number, oct_failure_text());
    assert_int_equal(found_kind, kind);
    assert_int_equal(found_bytes, bytes);
    if (bytes > 0)
        assert_memory_equal(found, payload, bytes);
}

// Receivers that are slow now and then let rank 0 run into the end of their room.
static void everything_arrives_in_order(void **state)
{
    (void)state;
    oct_control *first, *second;
    assert_int_equal(oct_control_open(&first, &world, path, &limits), OCT_OK);
    assert_int_equal(oct_control_open(&second, &world, path, &limits), OCT_OK);
    if (world.size > 1 && path != OCT_CONTROL_AUTO)
        assert_string_equal(oct_control_name(first), path == OCT_CONTROL_UCX ? "ucx" : "mpi");
    for (uint64_t number = 1; world.size > 1 && number <= MESSAGES; number++) {
        send_or_receive(first, number);
        if (number % 7 == 0)
            send_or_receive(second, number);
        if (number % 500 == 0 && world.rank == world.size - 1)
            usleep(20000);
    }
    oct_control_close(first);
    for (uint64_t number = 1; world.size > 1 && number <= 20; number++)
        send_or_receive(second, number);
    oct_control_close(second);
}

// Rank 1 is killed: rank 0 must be told by UCX, long before the monitor's deadline. Then rank 0 leaves: so must the
// rest.
static int lose_rank(void)
{
    oct_control *control;
    if (oct_control_open(&control, &world, path, &limits) != OCT_OK)
        return 1;
    if (world.rank == 1)
        raise(SIGKILL);
    const int64_t begin = oct_now_ns();
    oct_status status = OCT_OK;
    while (status == OCT_OK) {
        oct_control_kind kind;
        const void *found;
        size_t bytes;
        status = world.rank == 0 ? oct_control_send(control, OCT_CONTROL_STEP, payload, make_step(2, payload))
                                 : oct_control_receive(control, &kind, &found, &bytes);
        if (world.rank == 0)
            usleep(1000);
    }
    const double seconds = (double)(oct_now_ns() - begin) * 1e-9;
    printf("rank %d: status %d after %.3f s: %s\n", world.rank, (int)status, seconds, oct_failure_text());
    fflush(stdout);
    _exit(status == OCT_ERR_LOST && seconds < LOSS_S ? 0 : 1); // no call of MPI any more
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_packed_is_parsed),
        cmocka_unit_test(other_lengths_and_numbers_are_refused),
        cmocka_unit_test(what_is_out_of_range_is_refused),
        cmocka_unit_test(everything_arrives_in_order),
    };
    const oct_world_options options = oct_world_options_default();
    if (argc > 1)
        path = strcmp(argv[1], "ucx") == 0 ? OCT_CONTROL_UCX : strcmp(argv[1], "mpi") == 0 ? OCT_CONTROL_MPI : path;
    const size_t bytes = oct_control_message_bytes(&limits);
    message = calloc(2, bytes);
    payload = calloc(1, bytes);
    if (message == NULL || payload == NULL || oct_world_init(&world, &options) != OCT_OK)
        return 1;
    if (argc > 2)
        return lose_rank();
    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    if (failures > 0)
        oct_world_abort(&world, OCT_ERR_INTERNAL); // the others may wait for a message
    oct_world_finish(&world);
    free(message);
    free(payload);
    return 0;
}
