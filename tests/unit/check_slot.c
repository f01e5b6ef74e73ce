/* SPDX-License-Identifier: MIT */
/* What outlives a worker: its note, its programs' process groups, and the count of what a message
 * has done. */
#include "daemon/crashes.h"
#include "daemon/slot.h"
#include "suite.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is(const char *text, uint8_t length, const char *expected)
{
    return length == strlen(expected) && memcmp(text, expected, length) == 0;
}

/* Forks a worker that does something and dies of SIGSEGV or SIGKILL. */
static void die_in(void (*work)(struct slot *slot), struct slot *slot)
{
    int status;
    pid_t child = fork();

    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct rlimit none = {0};

        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL);
        work(slot);
        raise(SIGSEGV);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
}

static void work_in_a_call(struct slot *slot)
{
    slot_enter(slot, span_str("first"), span_str("q1"), span_str("k1"), span_str("m1"), 1);
    slot_leave(slot);
    slot_enter(slot, span_str("mail"), span_str("signups"), span_of("user\0x", 6), span_str("id-7"), 77);
    slot_bump(&slot->figures.consumed, 12);
    slot_turn(slot);
}

START_TEST(note_survives)
{
    struct slot *slot = slot_open();
    struct slot_note note;

    ck_assert_ptr_nonnull(slot);
    ck_assert(!slot_read_note(slot, &note));
    die_in(work_in_a_call, slot);
    ck_assert(slot_read_note(slot, &note));
    ck_assert(is(note.listener, note.listener_length, "mail"));
    ck_assert(is(note.queue, note.queue_length, "signups"));
    ck_assert(note.key_length == 6 && memcmp(note.key, "user\0x", 6) == 0);
    ck_assert(is(note.id, note.id_length, "id-7"));
    ck_assert_uint_eq(note.identity, 77);
    ck_assert_uint_eq(slot->figures.consumed, 12);
    ck_assert_uint_eq(slot->turns, 1);
    slot_close(slot);
}
END_TEST

static void work_between_calls(struct slot *slot)
{
    work_in_a_call(slot);
    slot_leave(slot);
}

START_TEST(no_note_between_calls)
{
    struct slot *slot = slot_open();
    struct slot_note note;

    die_in(work_between_calls, slot);
    ck_assert(!slot_read_note(slot, &note));
    slot_close(slot);
}
END_TEST

static void enter_named(struct slot *slot, char name)
{
    slot_enter(slot, span_of(&name, 1), span_str("q"), span_str("k"), span_str("m"), (uint64_t)name);
}

START_TEST(nested_calls)
{
    struct slot *slot = slot_open();
    struct slot_note note;

    for (char name = 'a'; name < 'k'; name++) {
        enter_named(slot, name);
        ck_assert(slot_read_note(slot, &note));
        ck_assert_int_eq(note.listener[0], name - 'a' < SLOT_NOTES ? name : 'a' + SLOT_NOTES - 1);
    }
    for (char name = 'j'; name >= 'a'; name--) {
        ck_assert(slot_read_note(slot, &note));
        ck_assert_int_eq(note.listener[0], name - 'a' < SLOT_NOTES ? name : 'a' + SLOT_NOTES - 1);
        slot_leave(slot);
    }
    ck_assert(!slot_read_note(slot, &note));
    slot_close(slot);
}
END_TEST

START_TEST(long_texts_are_cut)
{
    struct slot *slot = slot_open();
    struct slot_note note;
    char text[1000];

    memset(text, 'x', sizeof(text));
    slot_enter(slot, span_of(text, 255), span_of(text, 256), span_of(text, sizeof(text)), span_of(NULL, 0), 1);
    ck_assert(slot_read_note(slot, &note));
    ck_assert_uint_eq(note.listener_length, 255);
    ck_assert_uint_eq(note.queue_length, 255);
    ck_assert_uint_eq(note.key_length, 255);
    ck_assert_uint_eq(note.id_length, 0);

    /* A worker gone wild may leave anything. */
    memset(slot, 0xff, sizeof(*slot));
    ck_assert(slot_read_note(slot, &note));
    slot_kill_groups(slot);
    slot_close(slot);
}
END_TEST

START_TEST(states)
{
    struct slot *slot = slot_open();
    char bytes[8];
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    slot->control = ends[1];
    slot_set_state(slot, SLOT_STARTED);
    ck_assert_int_eq(read(ends[0], bytes, sizeof(bytes)), 1);
    slot_set_state(slot, SLOT_STARTED);
    slot_set_state(slot, SLOT_STARTING);
    ck_assert_int_eq(read(ends[0], bytes, sizeof(bytes)), -1);
    ck_assert_uint_eq(slot->state, SLOT_STARTED);
    close(ends[0]);
    slot_set_state(slot, SLOT_DRAINING); /* the supervisor is gone: no SIGPIPE */
    ck_assert_uint_eq(slot->state, SLOT_DRAINING);
    close(ends[1]);
    slot_close(slot);
}
END_TEST

/* ---- process groups ---- */

static pid_t program(void)
{
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        setpgid(0, 0);
        for (;;)
            pause();
    }
    setpgid(pid, pid);
    return pid;
}

START_TEST(groups_are_killed)
{
    struct slot *slot = slot_open();
    pid_t first = program(), second = program(), third = program();
    int status;

    slot_add_group(slot, first);
    slot_add_group(slot, second);
    slot_add_group(slot, third);
    slot_remove_group(slot, second);
    ck_assert_uint_eq(slot_kill_groups(slot), 2);
    ck_assert_int_eq(waitpid(first, &status, 0), first);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ck_assert_int_eq(waitpid(third, &status, 0), third);
    ck_assert_int_eq(waitpid(second, &status, WNOHANG), 0);
    ck_assert_uint_eq(slot_kill_groups(slot), 0);
    kill(second, SIGKILL);
    ck_assert_int_eq(waitpid(second, &status, 0), second);
    slot_close(slot);
}
END_TEST

START_TEST(too_many_groups)
{
    struct slot *slot = slot_open();
    unsigned used = 0;

    for (pid_t pgid = 0; pgid < SLOT_PGIDS + 10; pgid++)
        slot_add_group(slot, 1000000 + pgid);
    slot_remove_group(slot, 1000000 + SLOT_PGIDS + 5); /* was never in */
    slot_remove_group(slot, 1000003);
    for (size_t i = 0; i < SLOT_PGIDS; i++)
        used += slot->pgids[i] != 0;
    ck_assert_uint_eq(used, SLOT_PGIDS - 1);
    slot_close(slot);
}
END_TEST

/* ---- crash counts ---- */

START_TEST(crash_counts)
{
    struct crashes *crashes = crashes_open();

    ck_assert_ptr_nonnull(crashes);
    ck_assert_uint_eq(crashes_count(crashes, 0), 0);
    ck_assert_uint_eq(crashes_add(crashes, 0, 1), 1); /* 0 is an identity like any other */
    ck_assert_uint_eq(crashes_add(crashes, 77, 1), 1);
    ck_assert_uint_eq(crashes_add(crashes, 77, 2), 2);
    ck_assert_uint_eq(crashes_count(crashes, 77), 2);
    ck_assert_uint_eq(crashes_count(crashes, 0), 1);
    ck_assert_uint_eq(crashes_count(crashes, 78), 0);
    crashes_forget(crashes, 77);
    crashes_forget(crashes, 78);
    ck_assert_uint_eq(crashes_count(crashes, 77), 0);
    ck_assert_uint_eq(crashes_count(crashes, 0), 1);
    ck_assert_uint_eq(crashes_add(crashes, 77, 3), 1);
    crashes_close(crashes);
}
END_TEST

START_TEST(crashes_are_bounded)
{
    struct crashes *crashes = crashes_open();

    for (uint64_t i = 0; i < 100000; i++) {
        crashes_add(crashes, i, (int64_t)i + 1);
        ck_assert_uint_eq(crashes_count(crashes, i), 1);
    }
    ck_assert_uint_eq(crashes_count(crashes, 1), 0);     /* the oldest went */
    ck_assert_uint_eq(crashes_count(crashes, 99500), 1); /* the newest are there */
    crashes_close(crashes);
}
END_TEST

/* The supervisor counts in its process, a worker reads in another. */
START_TEST(crashes_are_shared)
{
    struct crashes *crashes = crashes_open();
    int status;
    pid_t child;

    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        for (int i = 0; i < 2000 && crashes_count(crashes, 5) != 3; i++)
            usleep(1000);
        _exit(crashes_count(crashes, 5) == 3 ? 0 : 1);
    }
    for (int i = 0; i < 3; i++)
        crashes_add(crashes, 5, i);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    crashes_close(crashes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("slot");
    TCase *tcase = tcase_create("slot");

    tcase_add_test(tcase, note_survives);
    tcase_add_test(tcase, no_note_between_calls);
    tcase_add_test(tcase, nested_calls);
    tcase_add_test(tcase, long_texts_are_cut);
    tcase_add_test(tcase, states);
    tcase_add_test(tcase, groups_are_killed);
    tcase_add_test(tcase, too_many_groups);
    tcase_add_test(tcase, crash_counts);
    tcase_add_test(tcase, crashes_are_bounded);
    tcase_add_test(tcase, crashes_are_shared);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
