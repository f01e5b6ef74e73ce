/* SPDX-License-Identifier: MIT */
/*
 * hark_run: a program, without a shell.
 *
 * posix_spawn() shares the memory until exec, so nothing is copied; it suspends the thread that calls it until the
 * program is loaded, so that is a thread of its own and the loop goes on. The end is heard through a pidfd: no SIGCHLD, no
 * process-wide state.
 *
 * The program is done when it has exited and its output is read to the end. A grandchild that keeps the pipes open does
 * not hold that up for long. The group ends with its program: what is left of it is killed.
 */
#include "dispatch/process_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_LINE_MAX 4096
#define RUN_READ 65536
#define RUN_LINGER_MS 1000 /* from the exit to the killing of what keeps the pipes open */

static void process_finish(struct hark_process *process)
{
    struct hark_instance *instance = process->helper.instance;
    struct hark_run_result result = {.error = process->spawn_error,
                                     .exit_status = process->exit_status,
                                     .signal = process->signal,
                                     .overflow = process->overflow,
                                     .output = hark_span(buf_span(&process->output))};

    timers_cancel(&instance->dispatcher->timers, &process->linger);
    instance_remove_helper(&process->helper);
    process_kill_group(process); /* what it has left behind; before its number can be another's */
    process_tell_group(process, false);
    process_reap(process); /* it has exited: this does not wait */
    instance_resume(instance, &process->helper.about);
    process->done(process->arg, &result);
    instance_leave(instance);
    process_free(process);
}

static void process_check(struct hark_process *process)
{
    if (process->over && process->fds[1] < 0 && process->fds[2] < 0)
        process_finish(process);
}

static void process_shut(struct hark_process *process, int which)
{
    if (process->events[which] != NULL)
        event_free(process->events[which]);
    process->events[which] = NULL;
    process_close(&process->fds[which]);
}

static void process_line(struct hark_process *process, struct span line)
{
    struct hark_instance *instance = process->helper.instance;

    if (process->run.on_error_line == NULL)
        return;
    instance_resume(instance, &process->helper.about);
    process->telling = true;
    process->run.on_error_line(process->arg, hark_span(line));
    process->telling = false;
    instance_leave(instance);
}

/* What came on standard error, cut into lines. */
static void process_lines(struct hark_process *process, bool end)
{
    struct buf *buf = &process->line;

    for (;;) {
        struct span rest = buf_span(buf);
        const uint8_t *newline = rest.length > 0 ? memchr(rest.data, '\n', rest.length) : NULL;
        size_t length = newline != NULL ? (size_t)(newline - rest.data) : rest.length;

        if (newline == NULL && length < RUN_LINE_MAX && !(end && length > 0))
            break;
        if (length > RUN_LINE_MAX) {
            length = RUN_LINE_MAX;
            newline = NULL;
        }
        process_line(process, span_of(rest.data, length));
        if (process->stopped)
            return;
        buf->start += length + (newline != NULL);
    }
    if (buf_length(buf) == 0) {
        buf_clear(buf);
    } else if (buf->start > RUN_LINE_MAX) {
        memmove(buf->data, buf->data + buf->start, buf_length(buf));
        buf->end -= buf->start;
        buf->start = 0;
    }
}

static void process_let_go(struct hark_process *process);

static void process_output(struct hark_process *process, int which)
{
    struct buf *to = which == 1 ? &process->output : &process->line;
    uint8_t *room = buf_reserve(to, RUN_READ);
    ssize_t got;

    if (room == NULL) {
        to->failed = false;
        process->overflow = true;
        process_kill_group(process);
        process_shut(process, which);
        process_check(process);
        return;
    }
    got = read(process->fds[which], room, RUN_READ);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0) {
        to->end += (size_t)got;
        if (which == 2) {
            process_lines(process, false);
            if (process->stopped)
                process_let_go(process);
        } else if (buf_length(to) > process->run.output_max) {
            to->end = to->start + process->run.output_max;
            process->overflow = true;
            process_kill_group(process);
            process_shut(process, 1);
        }
        return;
    }
    if (which == 2)
        process_lines(process, true);
    if (process->stopped) {
        process_let_go(process);
        return;
    }
    process_shut(process, which);
    process_check(process);
}

static void process_readable(evutil_socket_t fd, short what, void *arg)
{
    struct hark_process *process = arg;

    (void)what;
    process_output(process, fd == process->fds[1] ? 1 : 2);
}

static void process_writable(evutil_socket_t fd, short what, void *arg)
{
    struct hark_process *process = arg;
    struct hark_str input = process->run.input;
    ssize_t put = 0;

    (void)what;
    while (process->written < input.length) {
        put = write(fd, input.data + process->written, input.length - process->written);
        if (put < 0)
            break;
        process->written += (size_t)put;
    }
    if (put < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    process_shut(process, 0); /* all of it, or it does not want more */
}

static void process_linger(struct timer *timer)
{
    struct hark_process *process = HARK_CONTAINER(timer, struct hark_process, linger);

    process_kill_group(process);
    for (int i = 0; i < 3; i++)
        process_shut(process, i);
    process_check(process);
}

static void process_exited(evutil_socket_t fd, short what, void *arg)
{
    struct hark_process *process = arg;
    struct timers *timers = &process->helper.instance->dispatcher->timers;
    siginfo_t info = {.si_pid = 0};

    (void)fd;
    (void)what;
    if (waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
        return;
    process->over = true; /* but not reaped before the end: its number names the group until then */
    if (info.si_code == CLD_EXITED)
        process->exit_status = info.si_status;
    else
        process->signal = info.si_status;
    event_free(process->exited);
    process->exited = NULL;
    process_shut(process, 0);
    if (process->fds[1] < 0 && process->fds[2] < 0)
        process_finish(process);
    else if (timers_set(timers, &process->linger, RUN_LINGER_MS) != 0)
        process_linger(&process->linger);
}

static int process_watch(struct hark_process *process)
{
    struct event_base *base = process->helper.instance->dispatcher->options.base;

    process->pidfd = pidfd_open(process->pid, 0);
    if (process->pidfd < 0)
        return -1;
    fcntl(process->pidfd, F_SETFD, FD_CLOEXEC);
    process->exited = event_new(base, process->pidfd, EV_READ | EV_PERSIST, process_exited, process);
    process->events[0] = event_new(base, process->fds[0], EV_WRITE | EV_PERSIST, process_writable, process);
    process->events[1] = event_new(base, process->fds[1], EV_READ | EV_PERSIST, process_readable, process);
    process->events[2] = event_new(base, process->fds[2], EV_READ | EV_PERSIST, process_readable, process);
    if (process->exited == NULL || event_add(process->exited, NULL) != 0)
        return -1;
    for (int i = 0; i < 3; i++)
        if (process->events[i] == NULL || event_add(process->events[i], NULL) != 0)
            return -1;
    return 0;
}

static void process_spawned(void *data)
{
    struct hark_process *process = data;

    process->job = NULL;
    for (int i = 0; i < 3; i++)
        process_close(&process->child_fds[i]);
    if (process->spawn_error == 0 && process_watch(process) != 0) {
        process->spawn_error = errno != 0 ? errno : ENOMEM;
        process_kill_group(process);
        process_tell_group(process, false);
        process_reap(process);
        process->pid = 0;
    }
    if (process->spawn_error != 0)
        process_finish(process);
}

static void process_unwatch(struct hark_process *process)
{
    for (int i = 0; i < 3; i++) {
        if (process->events[i] != NULL)
            event_free(process->events[i]);
        process->events[i] = NULL;
    }
    if (process->exited != NULL)
        event_free(process->exited);
    process->exited = NULL;
}

static void process_stop(struct helper *helper)
{
    struct hark_process *process = HARK_CONTAINER(helper, struct hark_process, helper);

    timers_cancel(&helper->instance->dispatcher->timers, &process->linger);
    if (process->telling)
        process->stopped = true; /* process_output() lets go */
    else
        process_let_go(process);
}

static void process_let_go(struct hark_process *process)
{
    if (process->job != NULL) {
        thread_abandon(process->job); /* and killed as soon as it is there */
        return;
    }
    if (process->over) {
        process_orphan(process); /* it has exited: this does not wait */
        return;
    }
    process_unwatch(process);
    /* Here and not in the thread, which a worker that leaves may end before it has begun. But even SIGKILL can take its
     * time, when the program waits for a disk: that is a thread's to wait for. */
    process_kill_group(process);
    if (thread_detach(process_orphan, process) != 0)
        process_orphan(process);
}

static int process_pipes(struct hark_process *process)
{
    for (int i = 0; i < 3; i++) {
        int ends[2], ours = i == 0 ? 1 : 0;

        if (pipe2(ends, O_CLOEXEC) != 0)
            return -1;
        process->fds[i] = ends[ours];
        process->child_fds[i] = ends[1 - ours];
        if (process->child_fds[i] < 3) { /* dup2 onto itself would leave it close-on-exec */
            int moved = fcntl(process->child_fds[i], F_DUPFD_CLOEXEC, 3);

            if (moved < 0)
                return -1;
            close(process->child_fds[i]);
            process->child_fds[i] = moved;
        }
        if (fcntl(process->fds[i], F_SETFL, O_NONBLOCK) != 0)
            return -1;
    }
    return 0;
}

struct hark_process *hark_run(struct hark_instance *instance, const struct hark_run *run, hark_run_done done, void *arg)
{
    struct hark_process *process = calloc(1, sizeof(*process));
    int error;

    if (process == NULL)
        return NULL;
    process->run = *run;
    process->group = instance->dispatcher->ports.group;
    process->group_arg = instance->dispatcher->ports.group_arg;
    process->done = done;
    process->arg = arg;
    process->exit_status = -1;
    process->pidfd = -1;
    process->linger.fire = process_linger;
    for (int i = 0; i < 3; i++)
        process->fds[i] = process->child_fds[i] = -1;
    process->argv = process_strings(run->argv);
    process->env = run->env != NULL ? process_strings(run->env) : NULL;
    process->directory = run->directory != NULL ? strdup(run->directory) : NULL;
    if (process->argv == NULL || (run->env != NULL && process->env == NULL) ||
        (run->directory != NULL && process->directory == NULL) || process_pipes(process) != 0)
        goto fail;
    process->job = thread_start(instance->dispatcher->options.base, process_spawn, process_spawned, process_orphan,
                                process);
    if (process->job == NULL)
        goto fail;
    instance_add_helper(instance, &process->helper, process_stop);
    return process;

fail:
    error = errno; /* for the caller's message */
    process_free(process);
    errno = error;
    return NULL;
}

void hark_run_kill(struct hark_process *process)
{
    if (process == NULL)
        return;
    instance_remove_helper(&process->helper);
    process_stop(&process->helper);
}
