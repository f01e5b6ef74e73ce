/* SPDX-License-Identifier: MIT */
#include "base/title.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

extern char **environ;

static char *title_area;
static size_t title_room;

void title_init(int argc, char **argv)
{
    char *end = argc > 0 ? argv[0] + strlen(argv[0]) + 1 : NULL;

    for (int i = 1; i < argc; i++)
        if (argv[i] == end)
            end = argv[i] + strlen(argv[i]) + 1;
    for (char **variable = environ; end != NULL && *variable != NULL; variable++) {
        char *copy;

        if (*variable != end)
            break;
        end += strlen(*variable) + 1;
        copy = strdup(*variable);
        if (copy == NULL)
            return;
        *variable = copy;
    }
    if (end == NULL)
        return;
    title_area = argv[0];
    title_room = (size_t)(end - argv[0]);
}

void title_set(const char *format, ...)
{
    va_list args;
    char text[128];

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    prctl(PR_SET_NAME, strncmp(text, "harkd: ", 7) == 0 ? text + 7 : text);
    if (title_area == NULL || title_room < 2)
        return;
    memset(title_area, 0, title_room);
    memcpy(title_area, text, strlen(text) < title_room - 1 ? strlen(text) : title_room - 1);
}
