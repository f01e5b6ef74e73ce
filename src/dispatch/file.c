/* SPDX-License-Identifier: MIT */
/* hark_read_file: a whole file, read in a thread: a disk can take its time. */
#include "dispatch/parts.h"
#include "dispatch/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct file_read {
    struct helper helper;
    struct thread_job *job;
    hark_file_done done;
    void *arg;
    size_t max;
    int error;
    struct buf data;
    char path[];
};

static void file_free(void *data)
{
    struct file_read *file = data;

    buf_free(&file->data);
    free(file);
}

static void file_work(void *data)
{
    struct file_read *file = data;
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0) {
        file->error = errno;
        return;
    }
    for (;;) {
        uint8_t *to = buf_reserve(&file->data, 65536);
        ssize_t got = to != NULL ? read(fd, to, 65536) : -1;

        if (got < 0 && to != NULL && errno == EINTR)
            continue;
        if (got < 0) {
            file->error = to != NULL ? errno : ENOMEM;
            break;
        }
        if (got == 0)
            break;
        file->data.end += (size_t)got;
        if (buf_length(&file->data) > file->max) {
            file->error = EFBIG;
            break;
        }
    }
    close(fd);
}

static void file_ready(void *data)
{
    struct file_read *file = data;
    struct hark_instance *instance = file->helper.instance;
    struct span read = file->error == 0 ? buf_span(&file->data) : span_str("");

    instance_remove_helper(&file->helper);
    instance_resume(instance, &file->helper.about);
    file->done(file->arg, file->error, hark_span(read));
    instance_leave(instance);
    file_free(file);
}

static void file_stop(struct helper *helper)
{
    thread_abandon(HARK_CONTAINER(helper, struct file_read, helper)->job);
}

int hark_read_file(struct hark_instance *instance, const char *path, size_t max, hark_file_done done, void *arg)
{
    size_t length = strlen(path) + 1;
    struct file_read *file = calloc(1, sizeof(*file) + length);

    if (file == NULL)
        return -1;
    file->done = done;
    file->arg = arg;
    file->max = max;
    memcpy(file->path, path, length);
    file->job = thread_start(instance->dispatcher->options.base, file_work, file_ready, file_free, file);
    if (file->job == NULL) {
        free(file);
        return -1;
    }
    instance_add_helper(instance, &file->helper, file_stop);
    return 0;
}
