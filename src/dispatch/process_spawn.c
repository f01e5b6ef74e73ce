/* SPDX-License-Identifier: MIT */
/* A program's memory, and the part of its life that a thread sees: see process.c. */
#include "dispatch/process_private.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void strings_free(char **strings)
{
    for (char **at = strings; at != NULL && *at != NULL; at++)
        free(*at);
    free(strings);
}

char **process_strings(const char *const *from)
{
    size_t count = 0;
    char **copy;

    while (from[count] != NULL)
        count++;
    copy = calloc(count + 1, sizeof(*copy));
    for (size_t i = 0; copy != NULL && i < count; i++) {
        copy[i] = strdup(from[i]);
        if (copy[i] == NULL) {
            strings_free(copy);
            return NULL;
        }
    }
    return copy;
}

void process_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void process_free(void *data)
{
    struct hark_process *process = data;

    for (int i = 0; i < 3; i++) {
        if (process->events[i] != NULL)
            event_free(process->events[i]);
        process_close(&process->fds[i]);
        process_close(&process->child_fds[i]);
    }
    if (process->exited != NULL)
        event_free(process->exited);
    process_close(&process->pidfd);
    strings_free(process->argv);
    strings_free(process->env);
    free(process->directory);
    buf_free(&process->output);
    buf_free(&process->line);
    free(process);
}

/* ---- in the thread ---- */

static int process_actions(struct hark_process *process, posix_spawn_file_actions_t *actions)
{
    int error = posix_spawn_file_actions_init(actions);

    if (error != 0)
        return error;
    for (int i = 0; i < 3 && error == 0; i++)
        error = posix_spawn_file_actions_adddup2(actions, process->child_fds[i], i);
    if (error == 0 && process->directory != NULL)
        error = posix_spawn_file_actions_addchdir_np(actions, process->directory);
    if (error == 0)
        error = posix_spawn_file_actions_addclosefrom_np(actions, 3);
    return error;
}

void process_tell_group(struct hark_process *process, bool alive)
{
    if (process->group != NULL && process->pid > 0)
        process->group(process->group_arg, process->pid, alive);
}

void process_spawn(void *data)
{
    struct hark_process *process = data;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int error = process_actions(process, &actions);

    posix_spawnattr_init(&attributes);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (error == 0)
        error = posix_spawnp(&process->pid, process->argv[0], &actions, &attributes, process->argv,
                             process->env != NULL ? process->env : environ);
    if (error != 0)
        process->pid = 0;
    else /* here: should the loop stand still or die before it hears of this, the supervisor must know */
        process_tell_group(process, true);
    process->spawn_error = error;
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
}

void process_kill_group(const struct hark_process *process)
{
    if (process->pid > 0)
        kill(-process->pid, SIGKILL);
}

void process_reap(const struct hark_process *process)
{
    while (process->pid > 0 && waitpid(process->pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* In a thread: nobody wants it any more. */
void process_orphan(void *data)
{
    process_kill_group(data);
    process_tell_group(data, false); /* before its number can be another's */
    process_reap(data);
    process_free(data);
}
