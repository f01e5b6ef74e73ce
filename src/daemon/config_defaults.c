/* SPDX-License-Identifier: MIT */
/* `harkd --defaults`. What it prints is itself an ini file without mistakes: the templates of
 * sections are comments. */
#include "base/settings.h"
#include "daemon/config_private.h"

#include <stdlib.h>
#include <string.h>

/* As settings_print() has it, all of it commented out. */
static void print_commented(const struct hark_setting *table, FILE *out)
{
    char *text = NULL;
    size_t length;
    FILE *memory = open_memstream(&text, &length);

    if (memory == NULL)
        return;
    for (const struct hark_setting *row = table; row != NULL && row->type != HARK_END; row++) {
        fputc('\n', memory);
        settings_print(row, memory);
    }
    if (fclose(memory) == 0) {
        for (char *line = text, *end; *line != 0; line = end + 1) {
            end = strchr(line, '\n');
            *end = 0;
            fprintf(out, "%s%s\n", *line != 0 && *line != ';' ? ";" : "", line);
        }
    }
    free(text);
}

void config_print_defaults(FILE *out)
{
    fputs("; Every key of harkd's ini file with its default. Keys without one, and the sections that are written once\n"
          "; per exchange, queue and listener, are commented out.\n\n[hark]\n",
          out);
    for (const struct hark_setting *row = config_general_table; row->type != HARK_END; row++) {
        fputc('\n', out);
        settings_print(row, out);
    }
    fputs("\n; more files to read, relative to this one, sorted: a name or a pattern\n"
          "; one value, key repeatable\n;include =\n",
          out);
    fputs("\n\n; only with url = embedded:\n;[broker]\n", out);
    print_commented(config_broker_table, out);
    fputs("\n\n; users of the embedded broker\n;[user NAME]\n", out);
    print_commented(config_user_table, out);
    fputs("\n\n;[exchange NAME]\n", out);
    print_commented(config_exchange_table, out);
    fputs("\n\n;[queue NAME]\n", out);
    print_commented(config_queue_table, out);
    fputs("\n\n;[listener NAME]\n", out);
    print_commented(config_listener_table, out);
    for (const struct hark_module *const *module = hark_modules; *module != NULL; module++) {
        fprintf(out, "\n\n; ---- and with\n;module = %s\n; %s\n", (*module)->name, (*module)->help);
        print_commented((*module)->settings, out);
    }
}
