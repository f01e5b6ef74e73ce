/* SPDX-License-Identifier: MIT */
/* TLS contexts: which files are taken, and what is said about those that are not. (Connections: check_tls.c.) */
#include "certificates.h"
#include "net/tls.h"
#include "suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64], files[3][136];

static void setup(void)
{
    static const char *const names[] = {"server", "client", "locked"};
    struct authority good = authority_new("good");
    char path[128];

    snprintf(folder, sizeof(folder), "/tmp/check_tls_context.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (size_t i = 0; i < HARK_COUNT(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        certificate_write(&good, path, "DNS:client", false, i == 2 ? "sesame" : NULL);
        snprintf(files[i], sizeof(files[i]), "%s.pem", path);
    }
    authority_free(&good);
}

static void teardown(void)
{
    for (size_t i = 0; i < HARK_COUNT(files); i++)
        unlink(files[i]);
    rmdir(folder);
}

static void accepted(const struct tls_options *options)
{
    char error[256] = "";
    struct tls_context *tls = tls_context_new(options, error, sizeof(error));

    ck_assert_msg(tls != NULL, "%s", error);
    tls_context_free(tls);
}

static void refused(const struct tls_options *options, const char *expected, const char *path)
{
    char error[256] = "", text[256];

    snprintf(text, sizeof(text), expected, path);
    ck_assert_ptr_null(tls_context_new(options, error, sizeof(error)));
    ck_assert_str_eq(error, text);
}

START_TEST(test_files)
{
    struct tls_options options = {.verify = true, .ca = "/nowhere/ca.pem"};
    const char *locked = files[2], *client_file = files[1], *server_file = files[0];

    refused(&options, "cannot load tls_ca %s: No such file or directory", "/nowhere/ca.pem");
    options.ca = "/dev/null";
    refused(&options, "cannot load tls_ca %s: no certificate or crl found", "/dev/null");
    options = (struct tls_options){.certificate = "/nowhere/client.pem"};
    refused(&options, "cannot load tls_certificate %s: No such file or directory", "/nowhere/client.pem");
    options.certificate = "/dev/null";
    refused(&options, "cannot load tls_certificate %s: it holds nothing of that kind in PEM format", "/dev/null");
    options.certificate = client_file;
    options.key = "/dev/null";
    refused(&options, "cannot load tls_key %s: it holds nothing of that kind in PEM format", "/dev/null");
    options.key = server_file;
    refused(&options, "cannot load tls_key %s: it does not belong to tls_certificate", server_file);
    options = (struct tls_options){.certificate = locked};
    refused(&options, "cannot load tls_key %s: it needs a password (see tls_key_password_file)", locked);
    options.key_password = "open";
    refused(&options, "cannot load tls_key %s: the password is wrong (see tls_key_password_file)", locked);
    options.key_password = "sesame";
    accepted(&options);
}
END_TEST

START_TEST(test_system_trust)
{
    struct tls_options options = {.verify = true};

    accepted(&options);
    tls_context_free(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls_context");
    TCase *tcase = tcase_create("tls_context");

    tcase_set_timeout(tcase, 15);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_files);
    tcase_add_test(tcase, test_system_trust);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
