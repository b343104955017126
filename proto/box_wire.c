/* box_wire.c - see box_wire.h: one table says what each type is, who may send it, how large. */
#include "proto/box_wire.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/own.h"
#include "lib/utf8.h"

#define KIB(n) ((size_t)(n) << 10)

enum { MAX_PATH = 4096, MAX_ROWS = 512 };

static const struct box_kind {
	const char *name;
	unsigned from;
	size_t limit;
	const ProtobufCMessageDescriptor *desc;
} kinds[BOX_N_TYPES] = {
	[BOX_PRESENT] = { "present", BOX_FROM_CLIENT, KIB(8), &hb__present__descriptor },
	[BOX_TAKEN] = { "taken", BOX_FROM_CLIENT, 64, &hb__taken__descriptor },
	[BOX_ASK] = { "ask", BOX_FROM_CLIENT, 64, &hb__ask__descriptor },
	[BOX_GRANTED] = { "granted", BOX_FROM_DAEMON, KIB(4), &hb__granted__descriptor },
	[BOX_REFUSED] = { "refused", BOX_FROM_DAEMON, KIB(16), &hb__refused__descriptor },
	[BOX_WAITING] = { "waiting", BOX_FROM_DAEMON, KIB(4), &hb__waiting__descriptor },
	[BOX_LEVEL] = { "level", BOX_FROM_DAEMON, KIB(4), &hb__level__descriptor },
	[BOX_MEMORY] = { "memory", BOX_FROM_DAEMON, BOX_MAX_PACKET - BOX_HEADER_BYTES,
			 &hb__memory__descriptor },
};

static const struct box_kind *kind_of(unsigned t)
{
	return t < BOX_N_TYPES && kinds[t].name ? &kinds[t] : NULL;
}

void box_msg_done(struct box_msg *m)
{
	if (m->body.any)
		protobuf_c_message_free_unpacked(m->body.any, NULL);
	m->body.any = NULL;
}

int box_pack(enum box_type t, const ProtobufCMessage *m, struct buf *out)
{
	const struct box_kind *k = kind_of(t);
	size_t n = protobuf_c_message_get_packed_size(m);
	unsigned char h[BOX_HEADER_BYTES] = { 'H', 'B', BOX_VERSION, (unsigned char)t };

	if (!k || m->descriptor != k->desc || n > k->limit)
		return -EMSGSIZE;
	if (buf_reserve(out, n + sizeof(h)) < 0)
		return -ENOMEM;
	for (int i = 0; i < 4; i++)
		h[4 + i] = (unsigned char)(n >> (8 * i));
	buf_put(out, h, sizeof(h));
	protobuf_c_message_pack(m, (uint8_t *)out->p + out->n);
	out->n += n;
	return 0;
}

/* ---- values that the receiver would have to believe ----------------------------------- */

/* Names end up in logs, tables and unit names. */
static bool name_ok(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n >= BOX_MAX_NAME)
		return false;
	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\')
			return false;
	return true;
}

/* One line for a person. */
static bool text_ok(const char *s)
{
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			return false;
	return utf8_ok(s, strlen(s));
}

static const char *check_present(const Hb__Present *p)
{
	if (!name_ok(p->alias) || !name_ok(p->device))
		return "alias or device is not a name";
	if (p->model && (strlen(p->model) >= MAX_PATH || !text_ok(p->model)))
		return "model is not a path";
	return NULL;
}

static const char *check_memory(const Hb__Memory *m)
{
	if (m->n_lease > MAX_ROWS || m->n_holder > MAX_ROWS || m->n_alias > MAX_ROWS ||
	    m->n_workload > MAX_ROWS || m->n_gpu > MAX_ROWS || m->n_note > MAX_ROWS)
		return "too many rows";
	for (size_t i = 0; i < m->n_holder; i++)
		if (!text_ok(m->holder[i]->name))
			return "a holder is not text";
	for (size_t i = 0; i < m->n_note; i++)
		if (!text_ok(m->note[i]))
			return "a note is not text";
	return m->level < HB__LEVEL_KIND__GREEN || m->level > HB__LEVEL_KIND__RED ?
		       "unknown level" : NULL;
}

static const char *check_values(const struct box_msg *m)
{
	switch (m->type) {
	case BOX_PRESENT:
		return check_present(m->body.present);
	case BOX_REFUSED:
		return text_ok(m->body.refused->text) ? NULL : "the reason is not text";
	case BOX_WAITING:
		return text_ok(m->body.waiting->text) ? NULL : "the reason is not text";
	case BOX_GRANTED:
		if (!m->body.granted->lease)
			return "lease 0";
		return !m->body.granted->text || text_ok(m->body.granted->text) ?
			       NULL : "the words are not text";
	case BOX_LEVEL:
		if (m->body.level->level < HB__LEVEL_KIND__GREEN ||
		    m->body.level->level > HB__LEVEL_KIND__RED)
			return "unknown level";
		return !m->body.level->text || text_ok(m->body.level->text) ?
			       NULL : "the words are not text";
	case BOX_MEMORY:
		return check_memory(m->body.memory);
	default:
		return NULL;
	}
}

int box_unpack(enum box_side from, const void *packet, size_t n, struct box_msg *ret,
	       struct err *e)
{
	const unsigned char *h = packet;
	const struct box_kind *k;
	struct box_msg m = { 0 };
	const char *why;
	size_t body;

	if (n < BOX_HEADER_BYTES || h[0] != 'H' || h[1] != 'B')
		return err_set(e, -EPROTO, "not a packet of hearthd's");
	if (h[2] != BOX_VERSION)
		return err_set(e, -EPROTONOSUPPORT, "peer speaks version %u, this side %d", h[2],
			       BOX_VERSION);
	k = kind_of(h[3]);
	if (!k || !(k->from & from))
		return err_set(e, -EPROTO, "message type %u is unknown or from the wrong side",
			       h[3]);
	body = h[4] | (size_t)h[5] << 8 | (size_t)h[6] << 16 | (size_t)h[7] << 24;
	if (body != n - BOX_HEADER_BYTES)
		return err_set(e, -EPROTO, "%s: header says %zu bytes, packet has %zu", k->name,
			       body, n - BOX_HEADER_BYTES);
	if (body > k->limit)
		return err_set(e, -EMSGSIZE, "%s: %zu bytes, limit %zu", k->name, body, k->limit);
	m.type = h[3];
	m.body.any = protobuf_c_message_unpack(k->desc, NULL, body, h + BOX_HEADER_BYTES);
	if (!m.body.any)
		return err_set(e, -EPROTO, "%s: body does not unpack", k->name);
	why = check_values(&m);
	if (why) {
		box_msg_done(&m);
		return err_set(e, -EPROTO, "%s: %s", k->name, why);
	}
	*ret = m;
	return 0;
}

/* ---- a socket ----------------------------------------------------------------------------- */

int box_send(int fd, enum box_type t, const ProtobufCMessage *m)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	int r = box_pack(t, m, &b);
	ssize_t n;

	if (r < 0)
		return r;
	do
		n = send(fd, b.p, b.n, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int box_recv(int fd, enum box_side from, struct box_msg *ret, struct err *e)
{
	CLEANUP(freep) unsigned char *p = malloc(BOX_MAX_PACKET);
	struct iovec io = { p, BOX_MAX_PACKET };
	struct msghdr h = { .msg_iov = &io, .msg_iovlen = 1 };
	ssize_t n;

	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	do
		n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_set(e, -errno, "%s", strerror(errno));
	if (n == 0)
		return err_set(e, -ECONNRESET, "the connection was closed");
	if (h.msg_flags & MSG_TRUNC)
		return err_set(e, -EMSGSIZE, "a packet of more than %d bytes", BOX_MAX_PACKET);
	return box_unpack(from, p, (size_t)n, ret, e);
}

int box_connect(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, r;

	if (strlen(path) >= sizeof(a.sun_path))
		return -ENAMETOOLONG;
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}
