/* SPDX-License-Identifier: MIT */
#include "base/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void notify_open_socket(struct notify *notify, const char *path)
{
    size_t length = path != NULL ? strlen(path) : 0;

    /* (systemd also knows "vsock:", between a virtual machine and its host; there is none of that
     * in a service.) */
    if (length < 2 || length >= sizeof(notify->address.sun_path) || (path[0] != '/' && path[0] != '@'))
        return;
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, path, length + 1);
    if (path[0] == '@')
        notify->address.sun_path[0] = '\0'; /* the abstract namespace, where the length counts and no 0 byte ends it */
    else
        length++;
    notify->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

static int64_t notify_number(const char *name)
{
    const char *text = getenv(name);
    long long value;
    char *end;

    if (text == NULL || *text == '\0')
        return -1;
    errno = 0;
    value = strtoll(text, &end, 10);
    return *end != '\0' || errno != 0 || value < 0 ? -1 : value;
}

void notify_open(struct notify *notify)
{
    int64_t microseconds = notify_number("WATCHDOG_USEC"), pid = notify_number("WATCHDOG_PID");

    *notify = (struct notify){0};
    notify_open_socket(notify, getenv("NOTIFY_SOCKET"));
    if (notify_wanted(notify) && microseconds > 0 && (getenv("WATCHDOG_PID") == NULL || pid == getpid()))
        notify->watchdog_ms = microseconds < 1000 ? 1 : microseconds / 1000;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

bool notify_send(const struct notify *notify, const char *format, ...)
{
    char text[1024];
    va_list args;
    bool full;
    int fd;

    if (!notify_wanted(notify))
        return true;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    full = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&notify->address, notify->length) <
               0 &&
           (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM);
    close(fd);
    return !full;
}

void notify_reloading(const struct notify *notify)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    notify_send(notify, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}
