/* SPDX-License-Identifier: MIT */
#include "broker/definitions.h"

#include "base/log.h"
#include "broker/definitions_json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFINITIONS_TAGS_MAX 1024
#define DEFINITIONS_NAMED 10 /* policies, in the warning */

struct definitions {
    struct json_place place;
    const struct definitions_ops *ops;
    void *arg;
    struct buf arguments, text;
    char reason[512]; /* of a call-back */
};

/* ---- one entry of each kind: 0, -1 with a message, or what the call-back said and 1 ---- */

static int definitions_vhost(struct definitions *self, const cJSON *entry)
{
    const char *name;

    if (json_name(&self->place, entry, "name", &name) != 0)
        return -1;
    return self->ops->vhost(self->arg, name, self->reason, sizeof(self->reason)) == 0 ? 0 : 1;
}

static void definitions_add_tag(struct buf *to, const char *tag)
{
    if (buf_length(to) > 0)
        buf_put_u8(to, ' ');
    for (; *tag != 0; tag++)
        buf_put_u8(to, *tag == ',' ? ' ' : (uint8_t)*tag);
}

/* A list, or a string with commas. */
static int definitions_tags(struct definitions *self, const cJSON *entry, const char **tags)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(entry, "tags"), *tag;
    size_t back = json_enter_key(&self->place, "tags");

    buf_clear(&self->text);
    if (cJSON_IsString(found)) {
        definitions_add_tag(&self->text, found->valuestring);
    } else if (cJSON_IsArray(found)) {
        cJSON_ArrayForEach(tag, found)
        {
            if (!cJSON_IsString(tag))
                return json_fail(&self->place, "expected strings in the list");
            definitions_add_tag(&self->text, tag->valuestring);
        }
    } else if (found != NULL && !cJSON_IsNull(found)) {
        return json_fail(&self->place, "expected a list of strings, or a string");
    }
    if (buf_length(&self->text) > DEFINITIONS_TAGS_MAX)
        return json_fail(&self->place, "expected at most %d bytes", DEFINITIONS_TAGS_MAX);
    buf_put_u8(&self->text, 0);
    if (self->text.failed)
        return json_fail(&self->place, "out of memory");
    json_leave(&self->place, back);
    *tags = (const char *)buf_span(&self->text).data;
    return 0;
}

static int definitions_user(struct definitions *self, const cJSON *entry)
{
    struct json_place *place = &self->place;
    struct user_options user = {0};

    if (json_name(place, entry, "name", &user.name) != 0 ||
        json_optional_string(place, entry, "password", &user.password) != 0 ||
        json_optional_string(place, entry, "password_hash", &user.password_hash) != 0 ||
        json_optional_string(place, entry, "hashing_algorithm", &user.algorithm) != 0 ||
        definitions_tags(self, entry, &user.tags) != 0)
        return -1;
    return self->ops->user(self->arg, &user, self->reason, sizeof(self->reason)) == 0 ? 0 : 1;
}

static int definitions_permission(struct definitions *self, const cJSON *entry)
{
    struct json_place *place = &self->place;
    struct definitions_permission permission;

    if (json_name(place, entry, "user", &permission.user) != 0 ||
        json_name(place, entry, "vhost", &permission.vhost) != 0 ||
        json_string(place, entry, "configure", &permission.configure) != 0 ||
        json_string(place, entry, "write", &permission.write) != 0 ||
        json_string(place, entry, "read", &permission.read) != 0)
        return -1;
    return self->ops->permission(self->arg, &permission, self->reason, sizeof(self->reason)) == 0 ? 0 : 1;
}

static int definitions_exchange(struct definitions *self, const cJSON *entry)
{
    struct json_place *place = &self->place;
    struct definitions_exchange exchange = {.durable = true};

    if (json_name(place, entry, "vhost", &exchange.vhost) != 0 ||
        json_name(place, entry, "name", &exchange.name) != 0 || json_name(place, entry, "type", &exchange.type) != 0 ||
        json_optional_boolean(place, entry, "durable", &exchange.durable) != 0 ||
        json_optional_boolean(place, entry, "auto_delete", &exchange.auto_delete) != 0 ||
        json_optional_boolean(place, entry, "internal", &exchange.internal) != 0 ||
        json_table(place, entry, "arguments", &self->arguments) != 0)
        return -1;
    exchange.arguments = buf_span(&self->arguments);
    return self->ops->exchange(self->arg, &exchange, self->reason, sizeof(self->reason)) == 0 ? 0 : 1;
}

static int definitions_queue(struct definitions *self, const cJSON *entry)
{
    struct json_place *place = &self->place;
    struct definitions_queue queue = {.durable = true};

    if (json_name(place, entry, "vhost", &queue.vhost) != 0 || json_name(place, entry, "name", &queue.name) != 0 ||
        json_optional_boolean(place, entry, "durable", &queue.durable) != 0 ||
        json_optional_boolean(place, entry, "auto_delete", &queue.auto_delete) != 0 ||
        json_table(place, entry, "arguments", &self->arguments) != 0)
        return -1;
    queue.arguments = buf_span(&self->arguments);
    return self->ops->queue(self->arg, &queue, self->reason, sizeof(self->reason)) == 0 ? 0 : 1;
}

static int definitions_binding(struct definitions *self, const cJSON *entry)
{
    struct json_place *place = &self->place;
    struct definitions_binding binding = {0};
    const cJSON *source = cJSON_GetObjectItemCaseSensitive(entry, "source");
    const char *type;

    /* Every queue is bound to the default exchange without anybody's doing. */
    if (cJSON_IsString(source) && source->valuestring[0] == 0)
        return 0;
    if (json_name(place, entry, "vhost", &binding.vhost) != 0 ||
        json_name(place, entry, "source", &binding.source) != 0 ||
        json_name(place, entry, "destination", &binding.destination) != 0 ||
        json_string(place, entry, "destination_type", &type) != 0 ||
        json_string(place, entry, "routing_key", &binding.routing_key) != 0 ||
        json_table(place, entry, "arguments", &self->arguments) != 0)
        return -1;
    binding.to_exchange = strcmp(type, "exchange") == 0;
    if (!binding.to_exchange && strcmp(type, "queue") != 0) {
        (void)json_enter_key(place, "destination_type");
        return json_fail(place, "expected \"queue\" or \"exchange\"");
    }
    if (strlen(binding.routing_key) > UINT8_MAX) {
        (void)json_enter_key(place, "routing_key");
        return json_fail(place, "expected at most %d bytes", UINT8_MAX);
    }
    binding.arguments = buf_span(&self->arguments);
    return self->ops->binding(self->arg, &binding, self->reason, sizeof(self->reason)) == 0 ? 0 : 1;
}

/* ---- all of them ---- */

static const struct {
    const char *key;
    int (*take)(struct definitions *self, const cJSON *entry);
} sections[] = {
    {"vhosts", definitions_vhost},       {"users", definitions_user},   {"permissions", definitions_permission},
    {"exchanges", definitions_exchange}, {"queues", definitions_queue}, {"bindings", definitions_binding},
};

/* NULL in *list: there is none. */
static int definitions_list(struct definitions *self, const cJSON *document, const char *key, const cJSON **list)
{
    *list = cJSON_GetObjectItemCaseSensitive(document, key);
    if (*list == NULL || cJSON_IsArray(*list))
        return 0;
    (void)json_enter_key(&self->place, key);
    return json_fail(&self->place, "expected a list");
}

/* A failure leaves the path where it happened. */
static int definitions_section(struct definitions *self, const cJSON *document, const char *key,
                               int (*take)(struct definitions *self, const cJSON *entry))
{
    const cJSON *list, *entry;
    unsigned index = 0;
    size_t back;

    if (definitions_list(self, document, key, &list) != 0)
        return -1;
    back = json_enter_key(&self->place, key);
    cJSON_ArrayForEach(entry, list)
    {
        size_t within = json_enter_item(&self->place, index++);
        int result = cJSON_IsObject(entry) ? take(self, entry) : json_fail(&self->place, "expected an object");

        if (result > 0)
            json_fail(&self->place, "%s", self->reason);
        if (result != 0)
            return -1;
        json_leave(&self->place, within);
    }
    json_leave(&self->place, back);
    return 0;
}

static void definitions_warn(struct definitions *self, const cJSON *document)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(document, "policies"), *policy;
    unsigned count = 0;

    buf_clear(&self->text);
    if (cJSON_IsArray(list))
        cJSON_ArrayForEach(policy, list)
        {
            const cJSON *name = cJSON_GetObjectItemCaseSensitive(policy, "name");

            if (count++ < DEFINITIONS_NAMED && cJSON_IsString(name))
                buf_printf(&self->text, "%s'%.100s'", count > 1 ? ", " : "", name->valuestring);
        }
    buf_put_u8(&self->text, 0);
    if (count > 0 && !self->text.failed)
        log_warning(
            "%s: policies are not supported and left out: %s%s (put what they say into the arguments of queues and "
            "exchanges)",
            self->place.file, (const char *)buf_span(&self->text).data, count > DEFINITIONS_NAMED ? ", ..." : "");
    list = cJSON_GetObjectItemCaseSensitive(document, "topic_permissions");
    if (cJSON_IsArray(list) && list->child != NULL)
        log_warning(
            "%s: topic permissions are not supported and left out: who may write to or read from an exchange may "
            "use any routing key",
            self->place.file);
}

static int definitions_take(struct definitions *self, const cJSON *document)
{
    if (!cJSON_IsObject(document))
        return json_fail(&self->place, "expected an object with users, vhosts, queues and so on");
    for (size_t i = 0; i < HARK_COUNT(sections); i++)
        if (definitions_section(self, document, sections[i].key, sections[i].take) != 0)
            return -1;
    definitions_warn(self, document);
    return 0;
}

int definitions_parse(const char *file, const char *text, size_t length, const struct definitions_ops *ops, void *arg,
                      char *error, size_t size)
{
    struct definitions self = {.place = {.file = file, .error = error, .size = size}, .ops = ops, .arg = arg};
    cJSON *document = json_parse(&self.place, text, length);
    int result = -1;

    if (document != NULL)
        result = definitions_take(&self, document);
    cJSON_Delete(document);
    buf_free(&self.arguments);
    buf_free(&self.text);
    return result;
}

/* ---- the file ---- */

/* errno in *failure, or 0: what is wrong is in error. */
static char *definitions_slurp(int fd, size_t *length, struct json_place *place, int *failure)
{
    struct stat about;
    char *text;
    ssize_t got;

    *failure = 0;
    *length = 0;
    if (fstat(fd, &about) != 0) {
        *failure = errno;
        return NULL;
    }
    if (!S_ISREG(about.st_mode) || about.st_size > DEFINITIONS_MAX) {
        json_fail(place, "expected a file of at most %d MiB", DEFINITIONS_MAX / 1024 / 1024);
        return NULL;
    }
    text = malloc((size_t)about.st_size + 1);
    if (text == NULL) {
        *failure = ENOMEM;
        return NULL;
    }
    while (*length < (size_t)about.st_size) {
        got = read(fd, text + *length, (size_t)about.st_size - *length);
        if (got < 0 && errno != EINTR) {
            *failure = errno;
            free(text);
            return NULL;
        }
        if (got == 0)
            break;
        *length += got > 0 ? (size_t)got : 0;
    }
    text[*length] = 0;
    return text;
}

int definitions_load(const char *file, const struct definitions_ops *ops, void *arg, char *error, size_t size)
{
    struct json_place place = {.file = file, .error = error, .size = size};
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), failure = errno, result;
    size_t length = 0;
    char *text = NULL;

    if (fd >= 0) {
        text = definitions_slurp(fd, &length, &place, &failure);
        close(fd);
    }
    if (text == NULL)
        return failure != 0 ? json_fail(&place, "%s", strerror(failure)) : -1;
    result = definitions_parse(file, text, length, ops, arg, error, size);
    free(text);
    return result;
}
