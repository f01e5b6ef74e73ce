/* SPDX-License-Identifier: MIT */
#include "daemon/slot.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

struct slot *slot_open(void)
{
    struct slot *slot = mmap(NULL, sizeof(*slot), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (slot == MAP_FAILED)
        return NULL;
    slot->control = -1;
    return slot;
}

void slot_close(struct slot *slot)
{
    if (slot != NULL)
        munmap(slot, sizeof(*slot));
}

bool slot_read_note(const struct slot *slot, struct slot_note *note)
{
    uint32_t depth = atomic_load_explicit(&slot->depth, memory_order_acquire);

    if (depth == 0)
        return false;
    /* Deeper calls than there are notes are put down to the innermost that has one. (A length is a
     * byte and each text has room for 255, so nothing that a wild write leaves behind can lead out
     * of the note.) */
    *note = slot->notes[(depth < SLOT_NOTES ? depth : SLOT_NOTES) - 1];
    return true;
}

unsigned slot_kill_groups(struct slot *slot)
{
    unsigned killed = 0;

    for (size_t i = 0; i < SLOT_PGIDS; i++) {
        int32_t pgid = atomic_exchange_explicit(&slot->pgids[i], 0, memory_order_relaxed);

        /* kill(-1) and kill(0) mean everybody: no number that a crash may have written gets that
         * far. */
        if (pgid > 1 && kill(-pgid, SIGKILL) == 0)
            killed++;
    }
    return killed;
}

void slot_wake(struct slot *slot)
{
    atomic_store_explicit(&slot->unwatched, 0, memory_order_relaxed);
    if (slot->control >= 0)
        (void)!send(slot->control, "w", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void slot_set_state(struct slot *slot, enum slot_state state)
{
    if (atomic_load_explicit(&slot->state, memory_order_relaxed) >= (uint32_t)state)
        return;
    atomic_store_explicit(&slot->state, (uint32_t)state, memory_order_release);
    /* The byte only wakes the supervisor; if the socket is full, it has enough to wake it. */
    if (slot->control >= 0)
        (void)!send(slot->control, "s", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void slot_add_group(struct slot *slot, pid_t pgid)
{
    for (size_t i = 0; i < SLOT_PGIDS; i++) {
        int32_t none = 0; /* the threads that start programs add, too */

        if (atomic_compare_exchange_strong(&slot->pgids[i], &none, pgid))
            return;
    }
}

void slot_remove_group(struct slot *slot, pid_t pgid)
{
    for (size_t i = 0; i < SLOT_PGIDS; i++)
        if (atomic_load_explicit(&slot->pgids[i], memory_order_relaxed) == pgid) {
            atomic_store_explicit(&slot->pgids[i], 0, memory_order_relaxed);
            return;
        }
}
