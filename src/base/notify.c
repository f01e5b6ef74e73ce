/* SPDX-License-Identifier: MIT */
#include "base/notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char *notify_path(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address;

    if (path == NULL || (path[0] != '/' && path[0] != '@') || path[1] == '\0' || strlen(path) >= sizeof(address.sun_path))
        return NULL;
    return path;
}

bool notify_wanted(void)
{
    return notify_path() != NULL;
}

void notify(const char *format, ...)
{
    const char *path = notify_path();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char text[1024];
    va_list args;
    int fd;

    if (path == NULL)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* the abstract namespace */
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    /* A manager that does not take it now will see the next one. */
    (void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    close(fd);
}

void notify_reloading(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    notify("RELOADING=1\nMONOTONIC_USEC=%lld", (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

int64_t notify_watchdog(void)
{
    const char *microseconds = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

    if (microseconds == NULL || (pid != NULL && strtol(pid, NULL, 10) != getpid()))
        return 0;
    return strtoll(microseconds, NULL, 10) / 1000;
}
