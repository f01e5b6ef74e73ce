/* SPDX-License-Identifier: MIT */
/*
 * Bytes over a connected non-blocking descriptor, plain or through TLS. Used by link.c only.
 */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include "net/tls.h"
#include <openssl/types.h>

struct stream {
    int fd;
    SSL *ssl;         /* NULL: plain */
    bool broken;      /* TLS failed: nothing more may be said through it */
    const char *why;  /* after STREAM_ERROR: what went wrong */
    bool wants_write; /* after STREAM_AGAIN of a read or of the handshake */
    char text[256];
};

/* Results of reading and writing besides a number of bytes. */
enum { STREAM_EOF = 0, STREAM_ERROR = -1, STREAM_AGAIN = -2 };

/* Takes the descriptor. With TLS, as a client, `name` is who the peer must be. -1: out of memory (the descriptor is closed). */
int stream_open(struct stream *stream, int fd, struct tls_context *tls, const char *name) HARK_MUSTCHECK;
/* The TLS handshake: 1 done, STREAM_AGAIN, STREAM_ERROR. Plain: 1. */
int stream_handshake(struct stream *stream) HARK_MUSTCHECK;
ssize_t stream_read(struct stream *stream, void *to, size_t size) HARK_MUSTCHECK;
ssize_t stream_write(struct stream *stream, const void *from, size_t size) HARK_MUSTCHECK;
static inline bool stream_is_tls(const struct stream *stream)
{
    return stream->ssl != NULL;
}
/* After a read that brought something: TLS has read more, so another read makes sense. */
bool stream_buffered(const struct stream *stream);
/* The common name of the peer's certificate, if the peer showed one and it was verified: a string of the caller's to free.
 * NULL: none; several, one with a byte 0 in it, or one over 255 bytes, which name nobody; or no memory. */
char *stream_peer_name(const struct stream *stream) HARK_MUSTCHECK;
/* Nothing more will be written: says so to the peer (close_notify, end of file), once, without waiting. */
void stream_finish(struct stream *stream);
void stream_close(struct stream *stream);

#endif
