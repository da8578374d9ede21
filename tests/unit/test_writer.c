// The writer of responses: order, whole lines, few syncs, bounded memory, and what happens to its output when the disk
// is full, the reader leaves, or the job ends before its time.
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "launch/writer.c"

enum { LINES = 200, TEXT_BYTES = 3000 };

static char folder[] = "/tmp/octet-test-writer-XXXXXX";
static char path[sizeof folder + 16];

static int make_folder(void **state)
{
    (void)state;
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/out", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static int forget(void **state)
{
    (void)state;
    oct_failure_clear();
    return 0;
}

// A response that tells which it is; the text has a NUL and something that is no UTF-8.
typedef struct sample {
    char id[16];
    char text[TEXT_BYTES];
    int32_t ids[5];
    oct_token_logprob chosen[5], top[15];
    oct_figure figure;
    oct_response response;
} sample;

static void make_sample(sample *s, int number)
{
    snprintf(s->id, sizeof s->id, "\"n%d\"", number);
    memset(s->text, 'a' + number % 26, sizeof s->text);
    memcpy(s->text, "begin\0\xff", 7);
    for (int i = 0; i < 5; i++) {
        s->ids[i] = number * 5 + i;
        s->chosen[i] = (oct_token_logprob){s->ids[i], -0.5f * (float)i};
        for (int k = 0; k < 3; k++)
            s->top[i * 3 + k] = (oct_token_logprob){number + k, -1.0f - (float)k};
    }
    s->figure = (oct_figure){"number", number, true};
    s->response = (oct_response){.id = s->id, .text = s->text, .text_bytes = (size_t)(number * 37 % TEXT_BYTES),
                                 .token_ids = s->ids, .token_count = 5, .finish_reason = OCT_FINISH_LENGTH,
                                 .error = number % 3 == 0 ? "an error" : NULL, .figures = &s->figure,
                                 .figure_count = 1, .logprobs = number % 2 == 0 ? s->chosen : NULL,
                                 .top = number % 2 == 0 ? s->top : NULL, .top_count = 3};
}

// What is handed over is a copy: the sample is spoilt at once.
static oct_status put(oct_writer *writer, int number)
{
    static sample s;
    make_sample(&s, number);
    const oct_status status = oct_writer_put(writer, &s.response);
    memset(&s, 0xee, sizeof s);
    return status;
}

// Fails unless the file holds the whole lines of the responses 0 … count - 1; gives the count.
static int count_whole_lines(FILE *file)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    int count = 0;
    sample s;
    assert_non_null(file);
    for (; (length = getline(&line, &capacity, file)) > 0; count++) {
        make_sample(&s, count);
        char *expected = oct_response_format(&s.response);
        assert_int_equal(line[length - 1], '\n');
        line[length - 1] = '\0';
        assert_string_equal(line, expected);
        free(expected);
    }
    free(line);
    fclose(file);
    return count;
}

static oct_writer *create(const char *to)
{
    oct_writer *writer = NULL;
    assert_int_equal(oct_writer_create(&writer, &(oct_writer_options){.path = to}), OCT_OK);
    return writer;
}

static void lines_are_whole_and_in_order(void **state)
{
    (void)state;
    oct_writer *writer = create(path);
    for (int i = 0; i < 10 * LINES; i++)
        assert_int_equal(put(writer, i), OCT_OK);
    assert_int_equal(oct_writer_finish(writer), OCT_OK);
    assert_int_equal(count_whole_lines(fopen(path, "r")), 10 * LINES);
    writer = create(path); // replaces
    assert_int_equal(oct_writer_finish(writer), OCT_OK);
    assert_int_equal(count_whole_lines(fopen(path, "r")), 0);
    assert_int_equal(oct_writer_finish(NULL), OCT_OK);
}

static void a_path_that_cannot_be(void **state)
{
    (void)state;
    oct_writer *writer = NULL;
    assert_int_equal(oct_writer_create(&writer, &(oct_writer_options){.path = folder}), OCT_ERR_FILE);
    assert_null(writer);
    assert_non_null(strstr(oct_failure_text(), "cannot be written: Is a directory"));
}

// Until the thread has failed.
static void wait_for_failure(oct_writer *writer)
{
    const int64_t began = oct_now_ns();
    while (oct_writer_check(writer) == OCT_OK) {
        assert_true(oct_now_ns() - began < INT64_C(20000000000));
        usleep(1000);
    }
}

static void a_full_disk_is_known_soon(void **state)
{
    (void)state;
    oct_writer *writer = create("/dev/full");
    assert_int_equal(put(writer, 0), OCT_OK);
    wait_for_failure(writer);
    assert_int_equal(oct_writer_check(writer), OCT_ERR_FILE);
    assert_string_equal(oct_failure_text(), "'/dev/full' cannot be written: No space left on device");
    assert_int_equal(put(writer, 1), OCT_ERR_FILE);
    assert_int_equal(oct_writer_finish(writer), OCT_ERR_FILE);
}

// A file that may not grow takes a part of a line; the part is taken back, and nothing is written behind the gap.
static void a_disk_that_fills_up_keeps_whole_lines(void **state)
{
    (void)state;
    struct rlimit before, small;
    struct stat found;
    getrlimit(RLIMIT_FSIZE, &before);
    small = (struct rlimit){.rlim_cur = 20000, .rlim_max = before.rlim_max};
    oct_writer *writer = create(path);
    setrlimit(RLIMIT_FSIZE, &small);
    for (int i = 0; i < LINES; i++)
        if (put(writer, i) != OCT_OK)
            break;
    wait_for_failure(writer);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(put(writer, 0), OCT_ERR_FILE);
    assert_int_equal(oct_writer_finish(writer), OCT_ERR_FILE);
    assert_int_equal(stat(path, &found), 0);
    assert_true(found.st_size > 15000 && found.st_size < 20000); // no line is longer than that
    assert_true(count_whole_lines(fopen(path, "r")) > 5);
}

static void a_reader_who_leaves_is_a_failure(void **state)
{
    (void)state;
    int ends[2];
    char name[32];
    assert_int_equal(pipe(ends), 0);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[1]);
    oct_writer *writer = create(name);
    assert_int_equal(put(writer, 0), OCT_OK);
    close(ends[0]);
    for (int i = 1; i < LINES && oct_writer_check(writer) == OCT_OK; i++)
        put(writer, i);
    wait_for_failure(writer);
    assert_non_null(strstr(oct_failure_text(), "Broken pipe"));
    assert_int_equal(oct_writer_finish(writer), OCT_ERR_FILE);
    close(ends[1]);
}

// Somebody who begins to read when the producer says that it must wait.
typedef struct late_reader {
    int descriptor, waits, lines;
    bool started;
    pthread_t thread;
} late_reader;

static void *read_all(void *context)
{
    late_reader *reader = context;
    reader->lines = count_whole_lines(fdopen(reader->descriptor, "r"));
    return NULL;
}

static oct_status start_reader(void *context)
{
    late_reader *reader = context;
    reader->waits++;
    if (!reader->started)
        assert_int_equal(pthread_create(&reader->thread, NULL, read_all, reader), 0);
    reader->started = true;
    return OCT_OK;
}

static void memory_is_bounded(void **state)
{
    (void)state;
    int ends[2], put_before = 0;
    char name[32];
    assert_int_equal(pipe(ends), 0);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[1]);
    late_reader reader = {.descriptor = ends[0]};
    const oct_writer_options options = {
        .path = name, .room_bytes = 20000, .before_wait = start_reader, .context = &reader};
    oct_writer *writer = NULL;
    assert_int_equal(oct_writer_create(&writer, &options), OCT_OK);
    close(ends[1]);
    size_t most = 0;
    for (int i = 0; i < 3 * LINES; i++) {
        assert_int_equal(put(writer, i), OCT_OK);
        pthread_mutex_lock(&writer->lock);
        most = writer->bytes > most ? writer->bytes : most;
        pthread_mutex_unlock(&writer->lock);
        put_before += !reader.started;
    }
    assert_true(reader.started && put_before > 5 && put_before < 3 * LINES);
    assert_true(most > 10000 && most <= 20000);
    assert_int_equal(oct_writer_finish(writer), OCT_OK);
    pthread_join(reader.thread, NULL);
    assert_int_equal(reader.lines, 3 * LINES);
}

static oct_status refuse(void *context)
{
    (void)context;
    return OCT_ERR_LOST;
}

static void a_large_response_passes_alone_and_a_refused_wait_is_told(void **state)
{
    (void)state;
    sample *s = malloc(sizeof *s);
    assert_non_null(s);
    make_sample(s, 0);
    const size_t bytes = 1 << 19;
    char *text = malloc(bytes);
    assert_non_null(text);
    memset(text, 'x', bytes);
    s->response.text = text;
    s->response.text_bytes = bytes;
    int ends[2];
    char name[32];
    assert_int_equal(pipe(ends), 0);
    snprintf(name, sizeof name, "/dev/fd/%d", ends[1]);
    oct_writer *writer = NULL;
    const oct_writer_options options = {.path = name, .room_bytes = 1000, .before_wait = refuse};
    assert_int_equal(oct_writer_create(&writer, &options), OCT_OK);
    close(ends[1]);
    assert_int_equal(oct_writer_put(writer, &s->response), OCT_OK);
    assert_int_equal(oct_writer_put(writer, &s->response), OCT_ERR_LOST);
    late_reader reader = {.descriptor = ends[0]};
    FILE *file = fdopen(reader.descriptor, "r");
    char *line = NULL;
    size_t capacity = 0;
    assert_true(getline(&line, &capacity, file) > (ssize_t)bytes);
    assert_int_equal(line[strlen(line) - 1], '\n');
    oct_writer_finish(writer);
    fclose(file);
    free(line);
    free(text);
    free(s);
}

// Runs in a process of its own; its exit code, or 1000 + the signal that killed it.
static int run_apart(void (*body)(int descriptor), int descriptor)
{
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        body(descriptor);
        _exit(99);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child)
        return -1;
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

// stdout is a pipe that somebody has made non-blocking, and its reader is slow.
static void write_to_stdout(int descriptor)
{
    dup2(descriptor, STDOUT_FILENO);
    oct_writer *writer = NULL;
    oct_status status = oct_writer_create(&writer, &(oct_writer_options){.path = NULL});
    for (int i = 0; i < LINES && status == OCT_OK; i++)
        status = put(writer, i);
    _exit((int)oct_writer_finish(writer));
}

static void *read_late(void *context)
{
    usleep(200000);
    return read_all(context);
}

static void a_pipe_that_does_not_block_is_waited_for(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0)
        write_to_stdout(ends[1]);
    close(ends[1]);
    late_reader reader = {.descriptor = ends[0]};
    assert_int_equal(pthread_create(&reader.thread, NULL, read_late, &reader), 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    pthread_join(reader.thread, NULL);
    assert_int_equal(status, 0);
    assert_int_equal(reader.lines, LINES);
}

// A job that ends while everything that it has finished waits in front of a pipe that nobody reads.
static void abort_in_front_of_a_pipe(int descriptor)
{
    char name[32];
    snprintf(name, sizeof name, "/dev/fd/%d", descriptor);
    oct_writer *writer = create(name);
    for (int i = 0; i < LINES; i++)
        put(writer, i);
    oct_world_abort(NULL, OCT_ERR_MACHINE);
}

static void leaving_is_bounded(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const int64_t began = oct_now_ns();
    assert_int_equal(run_apart(abort_in_front_of_a_pipe, ends[1]), OCT_ERR_MACHINE);
    const int64_t took = oct_now_ns() - began;
    assert_true(took > RESCUE_NS / 2 && took < 4 * (int64_t)RESCUE_NS);
    close(ends[0]);
    close(ends[1]);
}

#ifdef OCTET_FAULTS

static void configure_fault(const char *value)
{
    setenv("OCTET_FAULT", value, 1);
    assert_int_equal(oct_fault_configure(0), OCT_OK);
}

static int no_fault(void **state)
{
    configure_fault("");
    return forget(state);
}

// One sync of 50 ms a response would take 10 s, all of them seen by the producer.
static void slow_syncs_are_few_and_nobody_waits(void **state)
{
    (void)state;
    configure_fault("0:sync:1:slow");
    oct_writer *writer = create(path);
    int waited = 0;
    const int64_t began = oct_now_ns();
    for (int i = 0; i < LINES; i++) {
        const int64_t before = oct_now_ns();
        assert_int_equal(put(writer, i), OCT_OK);
        waited += oct_now_ns() - before > 40000000;
        usleep(1000);
    }
    assert_int_equal(oct_writer_finish(writer), OCT_OK);
    const int64_t took = oct_now_ns() - began;
    assert_true(waited < LINES / 10);
    assert_true(took > 100000000 && took < INT64_C(5000000000));
    assert_int_equal(count_whole_lines(fopen(path, "r")), LINES);
}

static void a_failed_sync_is_a_failure(void **state)
{
    (void)state;
    configure_fault("0:sync:2:error");
    oct_writer *writer = create(path);
    const int64_t began = oct_now_ns();
    for (int i = 0; oct_writer_check(writer) == OCT_OK && oct_now_ns() - began < INT64_C(20000000000); i++) {
        put(writer, i);
        usleep(1000);
    }
    assert_int_equal(oct_writer_finish(writer), OCT_ERR_FILE);
    assert_non_null(strstr(oct_failure_text(), "Input/output error"));
}

static void abort_behind_slow_syncs(int descriptor)
{
    (void)descriptor;
    oct_writer *writer = create(path);
    for (int i = 0; i < LINES; i++)
        put(writer, i);
    oct_fail(OCT_ERR_INTERNAL, "the end that this test asks for");
    oct_world_abort(NULL, OCT_ERR_INTERNAL);
}

static void a_job_that_ends_writes_what_is_finished(void **state)
{
    (void)state;
    configure_fault("0:sync:1:slow");
    assert_int_equal(run_apart(abort_behind_slow_syncs, -1), OCT_ERR_INTERNAL);
    assert_int_equal(count_whole_lines(fopen(path, "r")), LINES);
}

static void put_until_killed(int descriptor)
{
    (void)descriptor;
    oct_writer *writer = create(path);
    for (int i = 0; i < 100 * LINES; i++) { // slowly enough that there is a third sync
        put(writer, i);
        usleep(1000);
    }
    oct_writer_finish(writer);
}

static void a_kill_leaves_whole_lines(void **state)
{
    (void)state;
    configure_fault("0:sync:3:kill");
    assert_int_equal(run_apart(put_until_killed, -1), 1000 + SIGKILL);
    assert_true(count_whole_lines(fopen(path, "r")) >= 3);
}

#define FAULT_TESTS                                                                                                    \
    cmocka_unit_test_teardown(slow_syncs_are_few_and_nobody_waits, no_fault),                                          \
        cmocka_unit_test_teardown(a_failed_sync_is_a_failure, no_fault),                                               \
        cmocka_unit_test_teardown(a_job_that_ends_writes_what_is_finished, no_fault),                                  \
        cmocka_unit_test_teardown(a_kill_leaves_whole_lines, no_fault),
#else
#define FAULT_TESTS // builds without fault injection have nothing that is slow or broken
#endif

int main(void)
{
    signal(SIGPIPE, SIG_IGN); // as in every session
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(lines_are_whole_and_in_order, forget),
        cmocka_unit_test_teardown(a_path_that_cannot_be, forget),
        cmocka_unit_test_teardown(a_full_disk_is_known_soon, forget),
        cmocka_unit_test_teardown(a_disk_that_fills_up_keeps_whole_lines, forget),
        cmocka_unit_test_teardown(a_reader_who_leaves_is_a_failure, forget),
        cmocka_unit_test_teardown(memory_is_bounded, forget),
        cmocka_unit_test_teardown(a_large_response_passes_alone_and_a_refused_wait_is_told, forget),
        cmocka_unit_test_teardown(a_pipe_that_does_not_block_is_waited_for, forget),
        cmocka_unit_test_teardown(leaving_is_bounded, forget),
        FAULT_TESTS
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
