/* SPDX-License-Identifier: MIT */
/* How a log line looks in each format, and how strange bytes are shown. */
#include "base/log_private.h"

#include <stdio.h>

struct sink {
    char *at, *end;
};

/* How one character of a text is written. What is not valid UTF-8 and what is a control character
 * is always shown as \xNN, byte by byte; the styles differ in the rest. */
enum style {
    STYLE_ESCAPE, /* log_escape(): \n \t \\ */
    STYLE_PLAIN,  /* messages: as above, but a backslash stays as it is, or escaped texts would be
                     escaped twice */
    STYLE_QUOTED, /* logfmt: \n \t \\ \" */
    STYLE_JSON,   /* \n \t \\ \" \u00NN; a stray byte becomes the text \xNN */
};

static const char *const level_names[] = {"error", "warning", "notice", "info", "debug"};
/* Of syslog(3), as the journal and sd-daemon(3) have them. */
static const char *const level_priorities[] = {"3", "4", "5", "6", "7"};
static const char *const level_prefixes[] = {"<3>", "<4>", "<5>", "<6>", "<7>"};

const char *log_prefix(int fd, enum log_level level)
{
    return log_is_journal_stream(fd) ? level_prefixes[level] : "";
}

static void put(struct sink *sink, const char *text, size_t length)
{
    if ((size_t)(sink->end - sink->at) < length)
        length = (size_t)(sink->end - sink->at);
    memcpy(sink->at, text, length);
    sink->at += length;
}

static void puts_to(struct sink *sink, const char *text)
{
    put(sink, text, strlen(text));
}

/* Length of the valid, printable UTF-8 character at the start, 0 if there is none. */
static size_t utf8_length(const uint8_t *s, size_t length)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code;
    size_t need;

    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7f;
    if (s[0] >= 0xc2 && s[0] < 0xe0)
        need = 2;
    else if (s[0] >= 0xe0 && s[0] < 0xf0)
        need = 3;
    else if (s[0] >= 0xf0 && s[0] < 0xf5)
        need = 4;
    else
        return 0;
    if (length < need)
        return 0;
    code = s[0] & (0x7fu >> need);
    for (size_t i = 1; i < need; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3fu);
    }
    if (code < least[need] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return 0;
    /* U+0080..9F are control characters too: U+009B starts a terminal's escape sequence. */
    return code < 0xa0 ? 0 : need;
}

/* Writes the next character of *from in the style to `out` (at least 8 bytes) and moves on; returns
 * its length. */
static size_t next_char(enum style style, struct span *from, char *out)
{
    static const char hex[] = "0123456789ABCDEF";
    uint8_t c = from->data[0];
    size_t length = utf8_length(from->data, from->length);
    size_t used = length > 0 ? length : 1;
    bool special = c == '\n' || c == '\t' || (c == '\\' && style != STYLE_PLAIN) ||
                   (c == '"' && (style == STYLE_QUOTED || style == STYLE_JSON));

    if (special) {
        out[0] = '\\';
        out[1] = c == '\n' ? 'n' : c == '\t' ? 't' : (char)c;
        length = 2;
    } else if (length > 0) {
        memcpy(out, from->data, length);
    } else if (style == STYLE_JSON && c < 0x80) {
        length = (size_t)sprintf(out, "\\u%04x", c);
    } else {
        length = 0;
        if (style == STYLE_JSON)
            out[length++] = '\\';
        out[length++] = '\\';
        out[length++] = 'x';
        out[length++] = hex[c >> 4];
        out[length++] = hex[c & 15];
    }
    from->data += used;
    from->length -= used;
    return length;
}

static void put_styled(struct sink *sink, enum style style, struct span text)
{
    char out[8];

    while (text.length > 0)
        put(sink, out, next_char(style, &text, out));
}

const char *log_escape(char *to, size_t size, struct span from)
{
    size_t at = 0, fits = 0; /* fits: where "..." still has room behind */
    char out[8];

    if (size == 0)
        return "";
    while (from.length > 0) {
        size_t length = next_char(STYLE_ESCAPE, &from, out);

        if (at + length >= size) {
            at = fits;
            for (int dots = 0; dots < 3 && at + 1 < size; dots++)
                to[at++] = '.';
            break;
        }
        memcpy(to + at, out, length);
        at += length;
        if (at + 3 < size)
            fits = at;
    }
    to[at] = '\0';
    return to;
}

/* 2026-01-02T03:04:05.678Z. Not gmtime_r(): it may read the time zone's file and allocate. */
static void put_time(struct sink *sink, const struct timespec *time)
{
    char text[64];
    int64_t days = time->tv_sec / 86400, seconds = time->tv_sec % 86400;
    /* Howard Hinnant's civil_from_days: years begin in March, so the leap day comes last. */
    int64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    int64_t month = mp < 10 ? mp + 3 : mp - 9;

    snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)(yoe + era * 400 + (month <= 2)),
             (int)month, (int)(doy - (153 * mp + 2) / 5 + 1), (int)(seconds / 3600), (int)(seconds / 60 % 60),
             (int)(seconds % 60), (int)(time->tv_nsec / 1000000));
    puts_to(sink, text);
}

static void format_text(struct sink *sink, bool colour, const struct log_record *record)
{
    static const char *const colours[] = {"\033[1;31m", "\033[33m", "\033[1m", "", "\033[2m"};
    const char *shade = colour ? colours[record->level] : "";

    puts_to(sink, colour ? "\033[2m" : "");
    put_time(sink, &record->time);
    puts_to(sink, colour ? "\033[0m " : " ");
    puts_to(sink, shade);
    puts_to(sink, level_names[record->level]);
    puts_to(sink, *shade != '\0' ? "\033[0m " : " ");
    puts_to(sink, record->who);
    puts_to(sink, ": ");
    put_styled(sink, STYLE_PLAIN, record->message);
}

/* A value stands in quotes unless it is plainly one word. */
static void put_logfmt(struct sink *sink, struct span value)
{
    bool quote = value.length == 0;

    for (size_t i = 0; i < value.length && !quote; i++)
        quote = value.data[i] <= ' ' || value.data[i] >= 0x7f || strchr("\"=\\", value.data[i]) != NULL;
    puts_to(sink, quote ? "\"" : "");
    put_styled(sink, STYLE_QUOTED, value);
    puts_to(sink, quote ? "\"" : "");
}

static void format_logfmt(struct sink *sink, const struct log_record *record)
{
    char pid[32];

    puts_to(sink, "time=");
    put_time(sink, &record->time);
    puts_to(sink, " level=");
    puts_to(sink, level_names[record->level]);
    puts_to(sink, " process=");
    puts_to(sink, record->who);
    snprintf(pid, sizeof(pid), " pid=%d", (int)record->pid);
    puts_to(sink, pid);
    puts_to(sink, " msg=");
    put_logfmt(sink, record->message);
    for (size_t i = 0; i < record->field_count; i++) {
        puts_to(sink, " ");
        put_styled(sink, STYLE_QUOTED, record->fields[i].name);
        puts_to(sink, "=");
        put_logfmt(sink, record->fields[i].value);
    }
}

static void put_json(struct sink *sink, struct span value)
{
    puts_to(sink, "\"");
    put_styled(sink, STYLE_JSON, value);
    puts_to(sink, "\"");
}

static void format_json(struct sink *sink, const struct log_record *record)
{
    char pid[32];

    puts_to(sink, "{\"time\":\"");
    put_time(sink, &record->time);
    puts_to(sink, "\",\"level\":\"");
    puts_to(sink, level_names[record->level]);
    puts_to(sink, "\",\"process\":");
    put_json(sink, span_str(record->who));
    snprintf(pid, sizeof(pid), ",\"pid\":%d", (int)record->pid);
    puts_to(sink, pid);
    puts_to(sink, ",\"message\":");
    put_json(sink, record->message);
    for (size_t i = 0; i < record->field_count; i++) {
        puts_to(sink, ",");
        put_json(sink, record->fields[i].name);
        puts_to(sink, ":");
        put_json(sink, record->fields[i].value);
    }
    puts_to(sink, "}");
}

/* The native protocol, in its simple form: NAME=value lines. (Values with a newline would need its
 * other form, but ours are escaped, as journalctl would hide them as "blob data" otherwise.) */
static void format_journald(struct sink *sink, const struct log_record *record)
{
    puts_to(sink, "PRIORITY=");
    puts_to(sink, level_priorities[record->level]);
    puts_to(sink, "\nSYSLOG_IDENTIFIER=harkd\nHARK_PROCESS=");
    puts_to(sink, record->who);
    puts_to(sink, "\nMESSAGE=");
    put_styled(sink, STYLE_PLAIN, record->message);
    for (size_t i = 0; i < record->field_count; i++) {
        struct span name = record->fields[i].name;

        puts_to(sink, "\nHARK_");
        for (size_t j = 0; j < name.length && j < 59; j++) { /* journald takes names of 64 */
            char c = (char)name.data[j];

            if (c >= 'a' && c <= 'z')
                c = (char)(c - 'a' + 'A');
            else if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
                c = '_';
            put(sink, &c, 1);
        }
        puts_to(sink, "=");
        put_styled(sink, STYLE_PLAIN, record->fields[i].value);
    }
}

size_t log_format_record(enum log_format format, enum log_dress dress, const struct log_record *record, char *to)
{
    struct sink sink = {.at = to, .end = to + LOG_LINE_SIZE - 1};

    if (dress == LOG_DRESS_PRIORITY)
        puts_to(&sink, level_prefixes[record->level]);
    switch (format) {
    case LOG_FORMAT_LOGFMT:
        format_logfmt(&sink, record);
        break;
    case LOG_FORMAT_JSON:
        format_json(&sink, record);
        break;
    case LOG_FORMAT_JOURNALD:
        format_journald(&sink, record);
        break;
    case LOG_FORMAT_AUTO:
    case LOG_FORMAT_TEXT:
        format_text(&sink, dress == LOG_DRESS_COLOUR, record);
        break;
    }
    *sink.at++ = '\n';
    return (size_t)(sink.at - to);
}
