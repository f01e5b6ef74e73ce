/* SPDX-License-Identifier: MIT */
/* hark_wait: a call-back after a while, by the dispatcher's clock. */
#include "dispatch/parts.h"

#include <stdlib.h>

struct hark_timer {
    struct helper helper;
    struct timer timer;
    hark_timer_done done;
    void *arg;
};

static void wait_free(struct hark_timer *wait)
{
    timers_cancel(&wait->helper.instance->dispatcher->timers, &wait->timer);
    free(wait);
}

static void wait_stop(struct helper *helper)
{
    wait_free(HARK_CONTAINER(helper, struct hark_timer, helper));
}

static void wait_fire(struct timer *timer)
{
    struct hark_timer *wait = HARK_CONTAINER(timer, struct hark_timer, timer);
    struct hark_instance *instance = wait->helper.instance;

    instance_remove_helper(&wait->helper);
    instance_resume(instance, &wait->helper.about);
    wait->done(wait->arg);
    instance_leave(instance);
    wait_free(wait);
}

struct hark_timer *hark_wait(struct hark_instance *instance, int64_t ms, hark_timer_done done, void *arg)
{
    struct hark_timer *wait = calloc(1, sizeof(*wait));

    if (wait == NULL)
        return NULL;
    wait->timer.fire = wait_fire;
    wait->done = done;
    wait->arg = arg;
    if (timers_set(&instance->dispatcher->timers, &wait->timer, ms) != 0) {
        free(wait);
        return NULL;
    }
    instance_add_helper(instance, &wait->helper, wait_stop);
    return wait;
}

void hark_wait_cancel(struct hark_timer *wait)
{
    if (wait == NULL)
        return;
    instance_remove_helper(&wait->helper);
    wait_free(wait);
}
