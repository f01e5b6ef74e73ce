/* SPDX-License-Identifier: MIT */
/* The ini reader on arbitrary bytes: no crash, no leak, and what it returns keeps its own rules. */
#include "base/ini.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ini_errors errors = {0};
    struct ini *ini;

    setenv("FUZZ", "a \"b\" ;c", 1);
    ini = ini_parse("fuzz.ini", (const char *)data, size, &errors);
    for (size_t i = 0; ini != NULL && i < ini->section_count; i++) {
        const struct ini_section *section = &ini->sections[i];

        if (section->kind[0] == 0 || strlen(section->name) > INI_NAME_MAX || section->line < 1)
            abort();
        for (size_t j = 0; j < section->count; j++)
            if (section->entries[j].key[0] == 0 || section->entries[j].line <= section->line ||
                strlen(section->entries[j].value) > INI_LINE_MAX)
                abort();
    }
    for (size_t i = 0; i < errors.count && i < INI_ERRORS_MAX; i++)
        if (errors.lines[i] == NULL || strpbrk(errors.lines[i], "\n\r\033") != NULL)
            abort();
    ini_free(ini);
    ini_errors_free(&errors);
    return 0;
}
