/* SPDX-License-Identifier: MIT */
/* What a publisher has in flight, and which destinations it does not try again at once. */
#include "client/flight.h"
#include "client/refusals.h"

#include "wire/table.h"
#include "suite.h"

#include <stdlib.h>

static struct flight flight;

static void setup(void)
{
    ck_assert_int_eq(flight_init(&flight, 4), 0);
}

static void drop_all(struct outgoing *outgoing)
{
    while (outgoing != NULL) {
        struct outgoing *next = outgoing->next;

        outgoing_free(outgoing);
        outgoing = next;
    }
}

static void teardown(void)
{
    drop_all(flight_rewind(&flight));
    flight_free(&flight);
}

static struct outgoing *make(const char *key, const char *id, const char *body)
{
    struct properties properties = {.flags = id != NULL ? PROPERTY_MESSAGE_ID : 0, .message_id = span_str(id)};
    struct buf raw = {0};
    struct outgoing *outgoing;

    properties_put(&raw, &properties);
    outgoing = outgoing_new(span_str("events"), span_str(key), buf_span(&raw), span_str(body), NULL);
    ck_assert_ptr_nonnull(outgoing);
    buf_free(&raw);
    return outgoing;
}

static struct outgoing *add(const char *key)
{
    struct outgoing *outgoing = make(key, NULL, "");

    flight_add(&flight, outgoing);
    return outgoing;
}

static void take(struct outgoing *wanted)
{
    ck_assert_ptr_eq(flight_take(&flight, wanted->sequence), wanted);
    outgoing_free(wanted);
}

START_TEST(test_take)
{
    struct outgoing *first = add("1"), *second = add("2"), *third = add("3");

    ck_assert_uint_eq(first->sequence, 1);
    ck_assert_uint_eq(third->sequence, 3);
    ck_assert_ptr_null(flight_take(&flight, 0));
    ck_assert_ptr_null(flight_take(&flight, 4));
    ck_assert_ptr_null(flight_take(&flight, UINT64_MAX));
    take(second);
    ck_assert_ptr_null(flight_take(&flight, 2));
    ck_assert_ptr_null(flight_take_oldest(&flight, 0));
    ck_assert_ptr_eq(flight_take_oldest(&flight, 2), first);
    ck_assert_ptr_null(flight_take_oldest(&flight, 2));
    outgoing_free(first);
    ck_assert_uint_eq(flight.count, 1);
    take(third);
    ck_assert_uint_eq(flight.count, 0);
    ck_assert_ptr_null(flight_take_oldest(&flight, UINT64_MAX));
}
END_TEST

/* Some are never confirmed: the others go on, in a ring that does not grow. */
START_TEST(test_late_ones)
{
    struct outgoing *late[3] = {add("a"), add("b"), add("c")}, *chain;

    for (int i = 0; i < 1000; i++)
        take(add("passing"));
    ck_assert_uint_eq(flight.size, 8);
    ck_assert_uint_eq(flight.count, 3);
    ck_assert_ptr_null(flight_take(&flight, 500));
    take(late[1]);
    ck_assert_ptr_null(flight_take(&flight, 2));
    add("d");
    for (int i = 0; i < 20; i++)
        take(add("passing"));
    ck_assert_ptr_eq(flight_take_oldest(&flight, 1), late[0]);
    outgoing_free(late[0]);
    ck_assert_ptr_null(flight_take_oldest(&flight, 1));
    add("e");
    chain = flight_rewind(&flight);
    ck_assert(span_is(chain->routing_key, "c"));
    ck_assert(span_is(chain->next->routing_key, "d"));
    ck_assert(span_is(chain->next->next->routing_key, "e"));
    ck_assert_ptr_null(chain->next->next->next);
    drop_all(chain);
    ck_assert_uint_eq(flight.count, 0);
    ck_assert_uint_eq(add("again")->sequence, 1);
}
END_TEST

START_TEST(test_multiple_takes_late_ones_first)
{
    struct outgoing *got;
    uint64_t before = 0;
    int count = 0;

    for (int i = 0; i < 20; i++)
        add("x"); /* more than the ring holds */
    while ((got = flight_take_oldest(&flight, 15)) != NULL) {
        ck_assert_uint_eq(got->sequence, before + 1);
        before = got->sequence;
        outgoing_free(got);
        count++;
    }
    ck_assert_int_eq(count, 15);
    ck_assert_uint_eq(flight.count, 5);
}
END_TEST

static struct message *message(const char *key, const char *id, const char *body)
{
    struct properties properties = {.flags = id != NULL ? PROPERTY_MESSAGE_ID : 0, .message_id = span_str(id)};
    struct buf raw = {0};
    struct reply error;
    struct message *result;

    properties_put(&raw, &properties);
    result = message_new(span_str("events"), span_str(key), buf_span(&raw), strlen(body), &error);
    ck_assert_ptr_nonnull(result);
    memcpy(message_body_bytes(result), body, strlen(body));
    buf_free(&raw);
    return result;
}

static void find(const char *key, const char *id, const char *body, struct outgoing *wanted)
{
    struct message *returned = message(key, id, body);
    struct outgoing *found = flight_find(&flight, returned, returned->body.length);

    ck_assert_ptr_eq(found, wanted);
    if (found != NULL)
        found->returned = true;
    message_drop(returned);
}

START_TEST(test_find_returned)
{
    struct outgoing *all[6] = {
        make("k", "1", "same"),  make("k", "2", "same"),   make("k", NULL, "same"),
        make("k", NULL, "same"), make("k", NULL, "other"), make("", NULL, ""),
    };

    for (size_t i = 0; i < HARK_COUNT(all); i++)
        flight_add(&flight, all[i]);
    find("k", "2", "same", all[1]);
    find("k", "2", "same", NULL); /* once */
    find("k", "3", "same", NULL);
    find("j", "1", "same", NULL);
    find("k", "1", "diff", NULL);
    find("k", NULL, "other", all[4]);
    find("k", NULL, "same", all[2]);
    find("k", NULL, "same", all[3]);
    find("k", NULL, "same", NULL);
    find("", NULL, "", all[5]);
    find("k", "1", "same", all[0]);
    for (int i = 0; i < 8; i++)
        add("pushes them to the late ones");
    all[0]->returned = false;
    find("k", "1", "same", all[0]);
}
END_TEST

/* ---- copies of equal messages: only a header tells them apart ---- */

/* Properties without a message id, as a retry copy has them; `kind` of the number: as a broker may write it anew. */
static struct buf copy_properties(const char *event, const char *listener, bool rewritten)
{
    struct buf headers = {0}, raw = {0};
    struct properties properties = {.flags = PROPERTY_HEADERS};

    if (rewritten)
        table_put_long(&headers, span_str("x-hark-attempt"), 1);
    table_put_string(&headers, span_str("x-hark-listener"), span_str(listener));
    table_put_string(&headers, span_str("x-hark-id"), span_str(event));
    if (!rewritten)
        table_put_integer(&headers, span_str("x-hark-attempt"), 1);
    properties.headers = buf_span(&headers);
    properties_put(&raw, &properties);
    buf_free(&headers);
    return raw;
}

static struct outgoing *copy(const char *event, const char *listener)
{
    struct buf raw = copy_properties(event, listener, false);
    struct outgoing *outgoing = outgoing_new(span_str("hark.retry.50"), span_str("in"), buf_span(&raw),
                                             span_str("same"), NULL);

    ck_assert_ptr_nonnull(outgoing);
    buf_free(&raw);
    flight_add(&flight, outgoing);
    return outgoing;
}

static void find_copy(const char *event, const char *listener, bool rewritten, struct outgoing *wanted)
{
    struct buf raw = copy_properties(event, listener, rewritten);
    struct reply error;
    struct message *returned = message_new(span_str("hark.retry.50"), span_str("in"), buf_span(&raw), 4, &error);
    struct outgoing *found;

    ck_assert_ptr_nonnull(returned);
    memcpy(message_body_bytes(returned), "same", 4);
    found = flight_find(&flight, returned, returned->body.length);
    ck_assert_ptr_eq(found, wanted);
    if (found != NULL)
        found->returned = true;
    message_drop(returned);
    buf_free(&raw);
}

/* Two events without an id and with the same body, two listeners each: the copy that was returned is found, and not the
 * first that looks alike, whose event would be held while the lost one's is acknowledged. */
START_TEST(test_find_the_right_copy)
{
    struct outgoing *all[4] = {copy("e1", "a"), copy("e1", "b"), copy("e2", "a"), copy("e2", "b")};
    bool rewritten = _i == 1;

    find_copy("e2", "b", rewritten, all[3]);
    find_copy("e1", "b", rewritten, all[1]);
    find_copy("e2", "a", rewritten, all[2]);
    /* A broker that has touched even those: better the wrong one of two that look alike than none. */
    find_copy("e3", "c", rewritten, all[0]);
    find_copy("e1", "a", rewritten, NULL);
}
END_TEST

/* ---- refusals ---- */

static const char *ask(struct refusals *refusals, const char *exchange, const char *key, int64_t now)
{
    return refusals_find(refusals, span_str(exchange), span_str(key), now);
}

START_TEST(test_refusals)
{
    struct refusals refusals = {0};
    struct reply missing = {.code = 404, .text = "NOT_FOUND - no exchange"},
                 denied = {.code = 403, .text = "ACCESS_REFUSED"};
    struct reply large = {.code = 406, .text = "PRECONDITION_FAILED - message size"};

    refusals_add(&refusals, span_str("a"), span_str("k"), &missing, 1000);
    refusals_add(&refusals, span_str("b"), span_str("k"), &denied, 1500);
    refusals_add(&refusals, span_str("c"), span_str("k"), &large, 1500);
    ck_assert_str_eq(ask(&refusals, "a", "any", 1600), missing.text);
    ck_assert_str_eq(ask(&refusals, "b", "k", 1600), denied.text);
    ck_assert_ptr_null(ask(&refusals, "b", "other", 1600));
    ck_assert_ptr_null(ask(&refusals, "c", "k", 1600));
    ck_assert_ptr_null(ask(&refusals, "", "", 1600));
    ck_assert_ptr_null(ask(&refusals, "a", "k", 2001));
    ck_assert_uint_eq(refusals.used, 1);
    ck_assert_str_eq(ask(&refusals, "b", "k", 2001), denied.text);
    ck_assert_ptr_null(ask(&refusals, "b", "k", 9000));
    ck_assert_uint_eq(refusals.used, 0);
}
END_TEST

START_TEST(test_refusals_are_few)
{
    struct refusals refusals = {0};
    struct reply missing = {.code = 404, .text = "NOT_FOUND"};
    char name[2] = "A";

    for (int i = 0; i < 20; i++, name[0]++)
        refusals_add(&refusals, span_str(name), span_of(NULL, 0), &missing, i);
    ck_assert_uint_eq(refusals.used, REFUSALS_MAX);
    ck_assert_ptr_null(ask(&refusals, "A", "", 20));
    ck_assert_ptr_nonnull(ask(&refusals, "T", "", 20));
    ck_assert_ptr_nonnull(ask(&refusals, "M", "", 20));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("flight");
    TCase *flights = tcase_create("flight"), *refused = tcase_create("refusals");

    tcase_add_checked_fixture(flights, setup, teardown);
    tcase_add_test(flights, test_take);
    tcase_add_test(flights, test_late_ones);
    tcase_add_test(flights, test_multiple_takes_late_ones_first);
    tcase_add_test(flights, test_find_returned);
    tcase_add_loop_test(flights, test_find_the_right_copy, 0, 2);
    suite_add_tcase(suite, flights);
    tcase_add_test(refused, test_refusals);
    tcase_add_test(refused, test_refusals_are_few);
    suite_add_tcase(suite, refused);

    return suite_run(suite);
}
