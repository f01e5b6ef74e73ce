/* SPDX-License-Identifier: MIT */
#include "base/title.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Of the process, not of anybody's object: where the kernel put argv and, behind it, the
 * environment. */
static char *title_area;
static size_t title_room;
static char *title_environment; /* the copy of the environment, in one piece; kept to the end */

void title_init(int argc, char **argv)
{
    char *end = argc > 0 ? argv[0] + strlen(argv[0]) + 1 : NULL, *start;
    size_t count = 0;

    for (int i = 1; i < argc; i++)
        if (argv[i] == end)
            end = argv[i] + strlen(argv[i]) + 1;
    start = end;
    while (end != NULL && environ[count] == end)
        end += strlen(environ[count++]) + 1;
    if (end != start && (title_environment = malloc((size_t)(end - start))) == NULL)
        end = start;
    if (end == NULL)
        return;
    if (end != start)
        memcpy(title_environment, start, (size_t)(end - start));
    for (size_t i = 0; end != start && i < count; i++)
        environ[i] = title_environment + (environ[i] - start);
    title_area = argv[0];
    title_room = (size_t)(end - argv[0]);
}

void title_set(const char *name, const char *title)
{
    size_t length = strlen(title);

    if (name != NULL)
        prctl(PR_SET_NAME, name);
    if (title_area == NULL || title_room < 2)
        return;
    memset(title_area, 0, title_room);
    memcpy(title_area, title, length < title_room - 1 ? length : title_room - 1);
}
