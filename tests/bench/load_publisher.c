/* SPDX-License-Identifier: MIT */
#include "load.h"

#include <errno.h>

#define PUBLISHER_BLOCK (128 * 1024)
#define PUBLISHER_RING (2 * LOAD_WINDOW_MAX)

/* As raw_content, but with delivery_mode only. */
static void put_plain_content(struct buf *out, bool persistent, const void *body, size_t length)
{
    size_t frame = raw_begin(out, RAW_HEADER, LOAD_CHANNEL);

    buf_put_u16(out, 60);
    buf_put_u16(out, 0);
    buf_put_u64(out, length);
    buf_put_u16(out, 0x1000);
    buf_put_u8(out, persistent ? 2 : 1);
    raw_end(out, frame);
    frame = raw_begin(out, RAW_BODY, LOAD_CHANNEL);
    buf_put(out, body, length);
    raw_end(out, frame);
}

size_t load_put_message(struct buf *out, const struct load_options *options, unsigned key, const void *body)
{
    size_t method = raw_method(out, LOAD_CHANNEL, RAW_PUBLISH), id_end;

    buf_put_u16(out, 0);
    raw_short(out, span_str(options->exchange ? options->exchange : ""));
    raw_short(out, span_str(options->exchange ? bench_keys[key % options->keys] : options->queue));
    buf_put_u8(out, 0);
    raw_end(out, method);
    id_end = buf_length(out) + RAW_MESSAGE_ID_END;
    if (options->identified)
        raw_content(out, LOAD_CHANNEL, options->persistent, body, options->body);
    else
        put_plain_content(out, options->persistent, body, options->body);
    return id_end;
}

static void publisher_build(struct load_publisher *publisher)
{
    const struct load_options *options = publisher->options;
    struct buf *block = &publisher->block;
    size_t most = 0;
    char *body = malloc(options->body);

    if (body == NULL)
        load_die("body");
    memset(body, 'x', options->body);
    /* Whole rounds of the routing keys, so that the next block goes on where this one ends. */
    while (buf_length(block) < PUBLISHER_BLOCK || publisher->count % options->keys != 0) {
        if (publisher->count == most) {
            most = most > 0 ? most * 2 : 64;
            publisher->ends = realloc(publisher->ends, most * sizeof(*publisher->ends));
            publisher->id_ends = realloc(publisher->id_ends, most * sizeof(*publisher->id_ends));
            if (publisher->ends == NULL || publisher->id_ends == NULL)
                load_die("block");
        }
        publisher->id_ends[publisher->count] = load_put_message(block, options,
                                                                (unsigned)(publisher->count % options->keys), body);
        publisher->ends[publisher->count++] = buf_length(block);
    }
    free(body);
}

static void publisher_confirm_select(struct load_publisher *publisher)
{
    struct load_line *line = &publisher->line;
    struct load_frame frame;
    size_t method = raw_method(&line->out, LOAD_CHANNEL, RAW_CONFIRM_SELECT);

    buf_put_u8(&line->out, 0);
    raw_end(&line->out, method);
    load_line_call(line, RAW_CONFIRM_SELECT_OK, &frame);
    publisher->ring = calloc(PUBLISHER_RING, 1);
    if (publisher->ring == NULL)
        load_die("ring of confirms");
}

void load_publisher_init(struct load_publisher *publisher, const struct load_options *options)
{
    *publisher = (struct load_publisher){.options = options};
    publisher_build(publisher);
}

void load_publisher_open(struct load_publisher *publisher, const struct load_options *options)
{
    load_publisher_init(publisher, options);
    load_line_open(&publisher->line, options->port, false);
    if (options->window > 0)
        publisher_confirm_select(publisher);
}

/* How many messages may be on their way once those of the block up to the result are. */
static uint64_t publisher_allowed(const struct load_publisher *publisher)
{
    const struct load_options *options = publisher->options;
    uint64_t allowed = options->messages - publisher->published, free;

    if (options->window > 0) {
        free = options->window - (publisher->published - publisher->confirmed);
        /* Not one by one: a client that gathers costs the broker less. */
        if (free < options->window / 4 && free < allowed && publisher->sent == 0)
            return 0;
        if (free < allowed)
            allowed = free;
    }
    if (allowed > publisher->count - publisher->first)
        allowed = publisher->count - publisher->first;
    return allowed;
}

static void publisher_number(struct load_publisher *publisher, uint64_t number, size_t message)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *id = publisher->block.data + publisher->id_ends[message];

    for (unsigned digit = 0; digit < 8; digit++, number >>= 4)
        *--id = (uint8_t)digits[number & 15];
}

bool load_publisher_wants_write(const struct load_publisher *publisher)
{
    return publisher_allowed(publisher) > 0;
}

/* `sent` counts the bytes of the message `first` that are gone already. */
void load_publisher_write(struct load_publisher *publisher)
{
    uint64_t allowed = publisher_allowed(publisher);
    size_t begin = publisher->first > 0 ? publisher->ends[publisher->first - 1] : 0, end;

    if (allowed == 0)
        return;
    if (publisher->options->identified)
        for (uint64_t next = publisher->sent > 0; next < allowed; next++)
            publisher_number(publisher, publisher->published + next, publisher->first + next);
    begin += publisher->sent;
    end = publisher->ends[publisher->first + allowed - 1];
    begin += load_line_write(&publisher->line, publisher->block.data + begin, end - begin);
    while (publisher->first < publisher->count && publisher->ends[publisher->first] <= begin) {
        publisher->first++;
        publisher->published++;
    }
    publisher->sent = begin - (publisher->first > 0 ? publisher->ends[publisher->first - 1] : 0);
    if (publisher->first == publisher->count)
        publisher->first = 0;
}

static void publisher_confirmed(struct load_publisher *publisher, uint64_t number, bool multiple)
{
    uint8_t *ring = publisher->ring;

    errno = 0;
    if (number > publisher->published + 1 || number <= publisher->confirmed)
        load_die("a confirm for nothing");
    if (!multiple) {
        ring[number % PUBLISHER_RING] = 1;
    } else {
        while (publisher->confirmed < number)
            ring[++publisher->confirmed % PUBLISHER_RING] = 0;
    }
    while (ring[(publisher->confirmed + 1) % PUBLISHER_RING])
        ring[++publisher->confirmed % PUBLISHER_RING] = 0;
}

void load_publisher_read(struct load_publisher *publisher)
{
    struct load_frame frame;
    uint64_t number;

    load_line_read(&publisher->line);
    while (load_line_next(&publisher->line, &frame)) {
        if (frame.type == RAW_HEARTBEAT)
            continue;
        errno = 0;
        if (frame.type != RAW_METHOD || frame.id != RAW_ACK || publisher->ring == NULL)
            load_die("the publisher got something else than a confirm");
        number = raw_take_u64(&frame.args);
        publisher_confirmed(publisher, number, raw_take_u8(&frame.args) & 1);
    }
}

bool load_publisher_done(const struct load_publisher *publisher)
{
    const struct load_options *options = publisher->options;

    return publisher->published == options->messages &&
           (options->window == 0 || publisher->confirmed == options->messages);
}

void load_publisher_close(struct load_publisher *publisher)
{
    load_line_close(&publisher->line);
    buf_free(&publisher->block);
    free(publisher->ends);
    free(publisher->id_ends);
    free(publisher->ring);
}
