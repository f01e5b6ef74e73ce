/* SPDX-License-Identifier: MIT */
/* The store when things go wrong: kill -9, a full disk; and when all is well, silence. */
#include "base/log.h"
#include "unit/store_kit.h"
#include "suite.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static struct store_kit kit;

static void set_up(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    stored_begin(&kit);
}

static void quiet(void *arg, enum log_level level, const char *text)
{
    (void)arg;
    (void)level;
    (void)text;
}

static void tear_down(void)
{
    stored_end(&kit);
}

static void add(uint64_t queue, uint64_t position, size_t body)
{
    struct store_entry entry = {.queue = queue, .position = position};

    stored_add(&kit, &entry, body);
}

static void take(uint64_t queue, uint64_t position)
{
    struct store_entry entry = {.queue = queue, .position = position};

    store_remove(kit.store, &entry, NULL);
}

/* ---- kill -9 ---- */

/* Adds without an end, two behind each other removed; says how far it is confirmed. */
static _Noreturn void write_until_killed(uint64_t first, int out)
{
    stored_open(&kit);
    for (uint64_t i = first;; i += 10) {
        for (uint64_t k = i; k < i + 10; k++) {
            add(1, k, 50 + k % 3000);
            if (k % 4 == 3 && k >= first + 100)
                take(1, k - 100);
        }
        stored_sync(&kit);
        if (write(out, &i, sizeof(i)) != sizeof(i))
            _exit(1);
    }
}

static uint64_t kill_a_writer(uint64_t first, unsigned commits)
{
    int ends[2], status;
    uint64_t confirmed = 0, next;
    pid_t child;

    ck_assert_int_eq(pipe(ends), 0);
    child = fork();
    if (child == 0)
        write_until_killed(first, ends[1]);
    close(ends[1]);
    for (unsigned i = 0; i < commits; i++)
        ck_assert_int_eq(read(ends[0], &confirmed, sizeof(confirmed)), sizeof(confirmed));
    usleep(commits * 37 % 3000);
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
    while (read(ends[0], &next, sizeof(next)) == sizeof(next))
        confirmed = next;
    close(ends[0]);
    return confirmed + 10;
}

static void check_rows_from(uint64_t first, uint64_t end)
{
    uint64_t expected = first;

    stored_read(&kit, 1, 0, first, 4096, SIZE_MAX);
    for (size_t i = 0; i < kit.row_count; i++) {
        const struct store_row *row = &kit.rows[i];

        /* All that was confirmed, in order, but for what was removed (or was about to be). */
        for (; expected < row->entry.position && expected < end; expected++)
            ck_assert_msg(expected % 4 == 3, "%llu is missing", (unsigned long long)expected);
        expected = row->entry.position + 1;
        if (row->entry.position + 100 < end)
            ck_assert_msg(row->entry.position % 4 != 3, "%llu came back", (unsigned long long)row->entry.position);
        ck_assert_uint_eq(row->message->body.length, 50 + row->entry.position % 3000);
    }
    ck_assert_uint_ge(expected, end);
}

START_TEST(killed_between_commits)
{
    uint64_t first = 3; /* never first + 100 with k % 4 == 3 of an earlier run */

    for (unsigned run = 0; run < 8; run++) {
        uint64_t end = kill_a_writer(first, 3 + 7 * run);
        struct store_figures figures;

        stored_open(&kit);
        figures = stored_figures(&kit, 1);
        ck_assert_uint_ge(figures.next_position, end);
        check_rows_from(first, end);
        stored_read(&kit, 1, 0, 0, 4096, SIZE_MAX);
        ck_assert(kit.end);
        ck_assert_uint_eq(kit.row_count, figures.count);
        store_purge(kit.store, 1, 0, 0);
        first = (figures.next_position + 3) / 4 * 4 + 3;
        stored_close(&kit);
    }
}
END_TEST

/* ---- no room ---- */

static void turn_until(const unsigned *counter, unsigned value)
{
    while (*counter < value)
        ck_assert_int_eq(loop_turn(kit.loop, true), 0);
}

/* Adds until it says that it is low. */
static uint64_t fill(size_t body)
{
    uint64_t position = 0;

    while (kit.lows == 0) {
        for (int i = 0; i < 20; i++)
            add(1, position++, body);
        stored_turn(&kit);
        while (store_pending(kit.store) > 1 << 20 && kit.lows == 0)
            ck_assert_int_eq(loop_turn(kit.loop, true), 0);
    }
    return position;
}

START_TEST(database_full)
{
    uint64_t count, confirmed, batch, removed = 0;

    log_divert(quiet, NULL);
    kit.map_size = 32 << 20;
    stored_open(&kit);
    count = fill(3000);
    ck_assert_msg(strstr(kit.why, "largest size of 32 MiB") != NULL, "%s", kit.why);
    ck_assert_uint_eq(kit.wells, 0);
    confirmed = kit.committed;
    batch = store_batch(kit.store);
    ck_assert_uint_gt(batch, confirmed);

    /* What was asked for before is done before, even now. */
    stored_read(&kit, 1, 0, count - 1, 10, 100000);
    ck_assert_uint_eq(kit.row_count, 1);
    ck_assert_uint_eq(kit.rows[0].entry.position, count - 1);
    stored_read(&kit, 1, 0, 0, 10, 100000);
    ck_assert_uint_eq(kit.rows[0].entry.position, 0);
    ck_assert_uint_lt(store_committed(kit.store), batch);

    /* Removals make room, though additions wait before them. */
    while (kit.wells == 0) {
        ck_assert_uint_lt(removed, count);
        for (int i = 0; i < 50 && removed < count; i++)
            take(1, removed++);
        for (int i = 0; i < 20; i++) {
            stored_turn(&kit);
            usleep(1000);
        }
    }
    stored_sync(&kit);
    ck_assert_uint_eq(kit.lows, 1);
    ck_assert_uint_eq(kit.wells, 1);
    stored_close(&kit);
    ck_assert_uint_eq(stored_entries(&kit, "rows"), count - removed);
    stored_open(&kit);
    ck_assert_uint_eq(stored_figures(&kit, 1).count, count - removed);
    stored_read(&kit, 1, 0, 0, 1, 1);
    ck_assert_uint_eq(kit.rows[0].entry.position, removed);
}
END_TEST

START_TEST(purge_of_a_full_database)
{
    uint64_t count;

    log_divert(quiet, NULL);
    kit.map_size = 32 << 20;
    stored_open(&kit);
    count = fill(3000);
    add(2, 0, 10);
    store_purge(kit.store, 1, 0, 0);
    turn_until(&kit.wells, 1);
    stored_sync(&kit);
    add(1, count, 10);
    stored_close(&kit);
    stored_open(&kit);
    ck_assert_uint_eq(stored_figures(&kit, 1).count, 1);
    ck_assert_uint_eq(stored_figures(&kit, 2).count, 1);
}
END_TEST

/* A dead letter that finds no room: what it was stays until there is. */
START_TEST(what_is_replaced_stays)
{
    struct store_entry entry = {.queue = 2, .position = 7};

    log_divert(quiet, NULL);
    kit.map_size = 32 << 20;
    stored_open(&kit);
    add(2, 7, 10);
    stored_sync(&kit);
    fill(3000);
    add(3, 0, 4 << 20);
    store_replace(kit.store, &entry, NULL);
    take(1, 0);
    for (unsigned i = 0; i < 5; i++) {
        stored_read(&kit, 1, 0, 0, 1, 1); /* comes when the batches before it were looked at */
        ck_assert_uint_eq(kit.rows[0].entry.position, 1);
    }
    store_close(kit.store, 50);
    loop_free(kit.loop);
    kit.store = NULL;
    stored_open(&kit);
    ck_assert_uint_eq(stored_figures(&kit, 3).count, 0);
    ck_assert_uint_eq(stored_figures(&kit, 2).count, 1);
}
END_TEST

/* A file that may not grow behaves as a disk that is full. */
START_TEST(disk_full)
{
    struct rlimit before, limit;
    uint64_t count;

    log_divert(quiet, NULL);
    signal(SIGXFSZ, SIG_IGN);
    stored_open(&kit);
    add(1, 1000000, 10);
    stored_sync(&kit);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 24 << 20;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    count = fill(3000);
    stored_read(&kit, 1, 0, count - 1, 1, 1);
    ck_assert_uint_eq(kit.rows[0].entry.position, count - 1);
    for (uint64_t i = 0; i < 100; i++)
        take(1, i);
    take(1, 1000000);
    while (store_batch(kit.store) < 2)
        stored_turn(&kit);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    turn_until(&kit.wells, 1);
    stored_sync(&kit);
    ck_assert_uint_eq(kit.lows, 1);
    stored_close(&kit);
    stored_open(&kit);
    ck_assert_uint_eq(stored_figures(&kit, 1).count, count - 100);
    stored_read(&kit, 1, 0, 0, 1, 1);
    ck_assert_uint_eq(kit.rows[0].entry.position, 100);
}
END_TEST

START_TEST(disk_low)
{
    kit.limit = UINT64_MAX;
    log_divert(quiet, NULL);
    stored_open(&kit);
    turn_until(&kit.lows, 1);
    ck_assert_msg(strstr(kit.why, "disk_free_limit") != NULL, "%s", kit.why);
    add(1, 1, 10);
    stored_sync(&kit); /* what is there already is stored all the same */
    store_set_disk_free_limit(kit.store, 0);
    turn_until(&kit.wells, 1);
    ck_assert_uint_eq(kit.lows, 1);
}
END_TEST

/* In place of the C library's: 0 is whatever there is. */
static uint64_t disk_free;

int statvfs(const char *path, struct statvfs *disk)
{
    struct statfs known;

    if (statfs(path, &known) != 0)
        return -1;
    *disk = (struct statvfs){.f_bavail = disk_free != 0 ? disk_free / 4096 : known.f_bavail,
                             .f_frsize = disk_free != 0 ? 4096 : (unsigned long)known.f_frsize};
    return 0;
}

/* The file does not shrink: publishers were blocked for ever by messages that are gone. */
START_TEST(what_is_taken_out_of_a_low_disk_is_room)
{
    log_divert(quiet, NULL);
    disk_free = kit.limit = 200 << 20;
    stored_open(&kit);
    for (uint64_t i = 0; i < 300; i++) {
        add(1, i, 200000);
        if (i % 50 == 49)
            stored_sync(&kit);
    }
    disk_free = 155 << 20;
    store_set_disk_free_limit(kit.store, kit.limit); /* it looks again */
    turn_until(&kit.lows, 1);
    for (uint64_t i = 0; i < 300; i++)
        take(1, i);
    turn_until(&kit.wells, 1);
    ck_assert_uint_eq(kit.lows, 1);
    disk_free = 100 << 20;
    store_set_disk_free_limit(kit.store, kit.limit);
    turn_until(&kit.lows, 2);
    disk_free = 0;
}
END_TEST

START_TEST(lost_at_close_is_said)
{
    log_divert(quiet, NULL);
    kit.map_size = 32 << 20;
    stored_open(&kit);
    fill(3000);
    store_close(kit.store, 50);
    loop_free(kit.loop);
    kit.store = NULL;
    stored_open(&kit);
    ck_assert_uint_gt(stored_figures(&kit, 1).count, 100);
}
END_TEST

/* ---- peace ---- */

static long thread_switches(void)
{
    DIR *tasks = opendir("/proc/self/task");
    long switches = 0;

    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], line[256];
        FILE *file;
        bool store = false;

        snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
        file = task->d_name[0] != '.' ? fopen(path, "r") : NULL;
        while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
            store |= strcmp(line, "Name:\tstore\n") == 0;
            if (store && strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
                switches = strtol(line + 24, NULL, 10);
        }
        if (file != NULL)
            fclose(file);
    }
    closedir(tasks);
    return switches;
}

START_TEST(sleeps_when_idle)
{
    long before;

    stored_open(&kit);
    add(1, 0, 10);
    stored_sync(&kit);
    usleep(200000); /* it may still be on its way to sleep */
    before = thread_switches();
    ck_assert_int_gt(before, 0);
    usleep(2500000);
    ck_assert_int_eq(thread_switches(), before);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store_faults");
    TCase *tcase = tcase_create("store_faults");

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, killed_between_commits);
    tcase_add_test(tcase, database_full);
    tcase_add_test(tcase, purge_of_a_full_database);
    tcase_add_test(tcase, what_is_replaced_stays);
    tcase_add_test(tcase, disk_full);
    tcase_add_test(tcase, disk_low);
    tcase_add_test(tcase, what_is_taken_out_of_a_low_disk_is_room);
    tcase_add_test(tcase, lost_at_close_is_said);
    tcase_add_test(tcase, sleeps_when_idle);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
