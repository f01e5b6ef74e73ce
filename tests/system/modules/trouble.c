/* SPDX-License-Identifier: MIT */
/*
 * trouble: a listener that does to its worker what listeners must not do. Each body is an order; unknown ones are done.
 * Only in build/.../harkd-trouble, for the system tests.
 */
#include <hark/listener.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool trouble_is(struct hark_str body, const char *order)
{
    return body.length >= strlen(order) && memcmp(body.data, order, strlen(order)) == 0;
}

static void trouble_crash(void *arg)
{
    (void)arg;
    raise(SIGSEGV);
}

/* A listener called "early" says that it is there before there is any connection. */
static int trouble_open(struct hark_instance *instance)
{
    struct hark_message message = {.routing_key = hark_str("opened"), .body = hark_str("opened")};

    return strcmp(hark_name(instance), "early") == 0 ? hark_emit_new(instance, &message, NULL, NULL) : 0;
}

static enum hark_verdict trouble_handle(struct hark_instance *instance, struct hark_event *event)
{
    struct hark_str body = hark_body(event);

    if (trouble_is(body, "crash")) {
        raise(SIGSEGV);
    } else if (trouble_is(body, "exit")) {
        exit(1);
    } else if (trouble_is(body, "late")) { /* crashes in a call-back, when the call is long over */
        return hark_wait(instance, 10, trouble_crash, event) != NULL ? HARK_LATER : HARK_RETRY;
    } else if (trouble_is(body, "hang")) {
        for (volatile int forever = 1; forever;)
            ;
    } else if (trouble_is(body, "slow")) {
        nanosleep(&(struct timespec){.tv_nsec = 300 * 1000 * 1000}, NULL);
    } else if (trouble_is(body, "never")) {
        return HARK_LATER;
    } else if (trouble_is(body, "retry")) {
        return hark_because(event, HARK_RETRY, "ordered to retry\nand \x1b[31mmore");
    } else if (trouble_is(body, "reject")) {
        return hark_because(event, HARK_REJECT, "ordered to reject");
    } else if (trouble_is(body, "many")) {
        struct hark_message message = {.like = event};
        char text[32];

        for (int i = 0; i < 100; i++) {
            message.body = (struct hark_str){.data = text, .length = (size_t)snprintf(text, sizeof(text), "%d", i)};
            if (hark_emit(event, &message) != 0)
                return HARK_REJECT;
        }
        return HARK_DONE;
    }
    if (hark_emits(instance)) {
        struct hark_message message = {.like = event};

        if (hark_emit(event, &message) != 0)
            return HARK_REJECT;
    }
    return HARK_DONE;
}

static void trouble_cancel(struct hark_instance *instance, struct hark_event *event)
{
    (void)event;
    hark_log(instance, HARK_NOTICE, "let go of an event");
}

const struct hark_module hark_module_trouble = {
    .api = HARK_API,
    .name = "trouble",
    .help = "crashes, hangs and stalls on demand",
    .open = trouble_open,
    .handle = trouble_handle,
    .cancel = trouble_cancel,
};
