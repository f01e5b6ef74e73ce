/* SPDX-License-Identifier: MIT */
/* Any text as a configuration: read, and if it is one, checked and explained. */
#include "daemon/check.h"
#include "daemon/explain.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ini_errors errors = {0};
    struct config *config;
    FILE *out;

    /* What is made up here must not open files. */
    if (memmem(data, size, "_file", 5) != NULL || memmem(data, size, "tls_", 4) != NULL)
        return 0;
    config = config_parse("fuzz.ini", (const char *)data, size, &errors);
    if ((config == NULL) != (errors.count > 0))
        abort();
    ini_errors_free(&errors);
    out = config != NULL ? fopen("/dev/null", "w") : NULL;
    if (out != NULL) {
        for (size_t i = 0; i < config->listener_count; i++)
            if (config->listeners[i].module == NULL || config->listeners[i].queue_count == 0 ||
                config->listeners[i].on.count == 0)
                abort();
        if (check_config(config, out) > 0 || explain_key(config, "a.b", NULL, out) > 1)
            abort();
        fclose(out);
    }
    config_free(config);
    return 0;
}
