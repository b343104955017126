/* wire.c - see wire.h: one table says what each type is, who may send it, and how large. */
#include "proto/wire.h"

#include <math.h>
#include <string.h>

#include "lib/utf8.h"
#include "proto/wire_arena.h"

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)

enum {
	MAX_NAME = 128,		/* bytes of a worker's, a model's, a class's name */
	MAX_TEXT = 512,		/* bytes of a reason */
	MAX_CHOICES = 128,
	MAX_STOPS = 256,
	MAX_TOP_LOGPROBS = 20,
};

/* The shortest credible limits: a peer that sends more is broken, not busy. */
static const struct wire_kind {
	const char *name;
	unsigned from;		/* enum wire_side, or both */
	size_t limit;
	const ProtobufCMessageDescriptor *desc;
} kinds[WIRE_N_TYPES] = {
	[WIRE_HELLO] = { "hello", WIRE_FROM_WORKER, KIB(16), &hw__hello__descriptor },
	[WIRE_WORKER_BEAT] = { "beat", WIRE_FROM_WORKER, KIB(4), &hw__worker_beat__descriptor },
	[WIRE_ACCEPTED] = { "accepted", WIRE_FROM_WORKER, KIB(16), &hw__accepted__descriptor },
	[WIRE_REFUSED] = { "refused", WIRE_FROM_WORKER, KIB(64), &hw__refused__descriptor },
	[WIRE_PROGRESS] = { "progress", WIRE_FROM_WORKER, KIB(1), &hw__progress__descriptor },
	[WIRE_DELTA] = { "delta", WIRE_FROM_WORKER, MIB(4), &hw__delta__descriptor },
	[WIRE_DONE] = { "done", WIRE_FROM_WORKER, KIB(16), &hw__done__descriptor },
	[WIRE_WELCOME] = { "welcome", WIRE_FROM_ROUTER, KIB(1), &hw__welcome__descriptor },
	[WIRE_ROUTER_BEAT] = { "beat", WIRE_FROM_ROUTER, KIB(1), &hw__router_beat__descriptor },
	[WIRE_GENERATE] = { "generate", WIRE_FROM_ROUTER, MIB(256), &hw__generate__descriptor },
	[WIRE_CANCEL] = { "cancel", WIRE_FROM_ROUTER, KIB(1), &hw__cancel__descriptor },
	[WIRE_CREDIT] = { "credit", WIRE_FROM_ROUTER, KIB(1), &hw__credit__descriptor },
	[WIRE_DRAIN] = { "drain", WIRE_FROM_ROUTER, KIB(1), &hw__drain__descriptor },
	[WIRE_BOX_REPORT] = { "box report", WIRE_FROM_WORKER, KIB(256),
			      &hw__box_report__descriptor },
	[WIRE_BOX_REPLY] = { "box reply", WIRE_FROM_WORKER, KIB(4), &hw__box_reply__descriptor },
	[WIRE_BOX_COMMAND] = { "box command", WIRE_FROM_ROUTER, KIB(1),
			       &hw__box_command__descriptor },
	[WIRE_BOX_USE] = { "box use", WIRE_FROM_ROUTER, KIB(64), &hw__box_use__descriptor },
	[WIRE_GOODBYE] = { "goodbye", WIRE_FROM_WORKER | WIRE_FROM_ROUTER, KIB(4),
			   &hw__goodbye__descriptor },
};

static const struct wire_kind *kind_of(unsigned t)
{
	return t < WIRE_N_TYPES && kinds[t].name ? &kinds[t] : NULL;
}

const char *wire_type_name(enum wire_type t)
{
	const struct wire_kind *k = kind_of(t);

	return k ? k->name : "?";
}

size_t wire_limit(enum wire_type t)
{
	const struct wire_kind *k = kind_of(t);

	return k ? k->limit : 0;
}

static void put_le32(unsigned char *p, uint32_t x)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(x >> (8 * i));
}

static uint32_t get_le32(const unsigned char *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int wire_measure(enum wire_type t, const ProtobufCMessage *m, size_t *ret_n)
{
	const struct wire_kind *k = kind_of(t);

	if (!k || m->descriptor != k->desc)
		return -EMSGSIZE;
	*ret_n = protobuf_c_message_get_packed_size(m);
	return *ret_n > k->limit ? -EMSGSIZE : 0;
}

void wire_pack_into(enum wire_type t, uint32_t seq, const ProtobufCMessage *m, size_t n,
		    unsigned char header[WIRE_HEADER_BYTES], void *body)
{
	const unsigned char h[4] = { 'H', 'W', WIRE_VERSION, (unsigned char)t };

	memcpy(header, h, sizeof(h));
	put_le32(header + 4, seq);
	put_le32(header + 8, (uint32_t)n);
	protobuf_c_message_pack(m, body);
}

int wire_pack(enum wire_type t, uint32_t seq, const ProtobufCMessage *m, struct buf *header,
	      struct buf *body)
{
	unsigned char h[WIRE_HEADER_BYTES];
	size_t n;
	int r = wire_measure(t, m, &n);

	if (r < 0)
		return r;
	if (buf_reserve(body, n) < 0 || buf_reserve(header, sizeof(h)) < 0)
		return -ENOMEM;
	wire_pack_into(t, seq, m, n, h, body->p + body->n);
	buf_put(header, h, sizeof(h));
	body->n += n;
	return 0;
}

void wire_msg_done(struct wire_msg *m)
{
	if (m->arena)
		wire_arena_done(m->arena);
	else if (m->body.any)
		protobuf_c_message_free_unpacked(m->body.any, NULL);
	m->arena = NULL;
	m->body.any = NULL;
}

/* A Delta comes once a token and is a tree of a dozen small parts: one piece of memory for all. */
static int unpack_body(struct wire_msg *m, const void *body, size_t n)
{
	ProtobufCAllocator arena = { wire_arena_alloc, wire_arena_free, &m->arena };

	m->body.any = protobuf_c_message_unpack(kinds[m->type].desc,
						m->type == WIRE_DELTA ? &arena : NULL, n, body);
	if (m->body.any)
		return 0;
	wire_msg_done(m);
	return -EPROTO;
}

bool wire_alias_ok(const char *s)
{
	size_t n = strlen(s);

	return n && n <= WIRE_MAX_ALIAS && !strchr(".-/", *s) &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/") ==
		       n;
}

/* ---- values that the receiver would have to believe ------------------------- */

/* Names end up in logs, headers and labels. */
static bool name_ok(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > MAX_NAME)
		return false;
	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\')
			return false;
	return true;
}

static bool bytes_utf8(const ProtobufCBinaryData *b)
{
	return utf8_ok((const char *)b->data, b->len);
}

/* A line for a person. */
static bool text_ok(const char *s)
{
	size_t n = strlen(s);

	if (n > MAX_TEXT)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 127)
			return false;
	return utf8_ok(s, n);
}

static const char *check_hello(const Hw__Hello *h)
{
	if (!name_ok(h->worker) || !name_ok(h->model) || !name_ok(h->numeric_class))
		return "worker, model or numeric_class is not a name";
	if (h->n_capability > 64)
		return "too many capabilities";
	for (size_t i = 0; i < h->n_capability; i++)
		if (!name_ok(h->capability[i]))
			return "a capability is not a name";
	if (h->version && !name_ok(h->version))
		return "version is not a name";
	if (h->kind != HW__PEER_KIND__WORKER && h->kind != HW__PEER_KIND__BOX)
		return "unknown kind of peer";
	if (h->kind == HW__PEER_KIND__WORKER && (!h->max_context || !h->max_running))
		return "a limit is zero";
	return NULL;
}

static const char *check_box_model(const Hw__BoxModel *m)
{
	if (!name_ok(m->alias) || !name_ok(m->worker))
		return "alias or worker is not a name";
	if (m->state < HW__MODEL_STATE__UNLOADED || m->state > HW__MODEL_STATE__QUARANTINED)
		return "unknown state";
	if (m->permille > 1000)
		return "progress beyond its end";
	if (m->reason && !text_ok(m->reason))
		return "reason is too long or not UTF-8";
	return NULL;
}

static const char *check_box_report(const Hw__BoxReport *r)
{
	const double x[] = { r->pressure_some, r->pressure_full, r->load_1 };
	const char *why = NULL;

	if (r->n_model > WIRE_MAX_BOX_MODELS)
		return "too many models";
	for (size_t i = 0; i < sizeof(x) / sizeof(*x); i++)
		if (!isfinite(x[i]) || x[i] < 0)
			return "a measurement is not a number";
	for (size_t i = 0; i < r->n_model && !why; i++)
		why = check_box_model(r->model[i]);
	return why;
}

static const char *check_box_command(const Hw__BoxCommand *c)
{
	if (c->verb < HW__BOX_VERB__DEMAND || c->verb > HW__BOX_VERB__UNDRAIN)
		return "unknown verb";
	return name_ok(c->alias) ? NULL : "alias is not a name";
}

static const char *check_box_use(const Hw__BoxUse *u)
{
	if (u->n_use > WIRE_MAX_BOX_MODELS)
		return "too many aliases";
	for (size_t i = 0; i < u->n_use; i++)
		if (!name_ok(u->use[i]->alias))
			return "alias is not a name";
	return NULL;
}

static const char *check_logprob(const Hw__TokenLogprob *l)
{
	if (!isfinite(l->logprob) || l->n_top > MAX_TOP_LOGPROBS)
		return "a log-probability is not a number, or has too many alternatives";
	for (size_t i = 0; i < l->n_top; i++)
		if (isnan(l->top[i]->logprob))
			return "a log-probability is not a number";
	return NULL;
}

static const char *check_delta(const Hw__Delta *d)
{
	const char *why = NULL;

	if (d->choice >= MAX_CHOICES)
		return "choice out of range";
	for (size_t i = 0; i < d->n_piece; i++) {
		const Hw__Piece *p = d->piece[i];

		if (p->channel < HW__CHANNEL__CONTENT || p->channel > HW__CHANNEL__CALL_ARGS)
			return "unknown channel";
		if (!bytes_utf8(&p->text))
			return "text is not UTF-8";
		if (p->channel == HW__CHANNEL__CALL_BEGIN &&
		    (!p->call_id || !name_ok(p->call_id) || !p->text.len))
			return "a call begins without id or name";
	}
	for (size_t i = 0; i < d->n_logprob && !why; i++)
		why = check_logprob(d->logprob[i]);
	return why;
}

static const char *check_sampling(const Hw__Sampling *s)
{
	const float x[] = { s->temperature, s->top_p, s->min_p, s->presence_penalty,
			    s->frequency_penalty, s->repetition_penalty };

	for (size_t i = 0; i < sizeof(x) / sizeof(*x); i++)
		if (!isfinite(x[i]))
			return "a sampling parameter is not a number";
	for (size_t i = 0; i < s->n_bias; i++)
		if (isnan(s->bias[i]->bias))
			return "a bias is not a number";
	if (s->n_bias > 1024 || s->top_logprobs > MAX_TOP_LOGPROBS)
		return "too many biases or top_logprobs";
	return NULL;
}

static const char *check_generate(const Hw__Generate *g)
{
	if (!name_ok(g->model))
		return "model is not a name";
	if (g->has_chat + g->has_text + (g->n_token > 0) != 1)
		return "exactly one of chat, text and token must be there";
	if (g->n < 1 || g->n > MAX_CHOICES || g->first_choice > MAX_CHOICES - g->n)
		return "choices out of range";
	if (g->n_stop > MAX_STOPS || g->n_stop_token > MAX_STOPS)
		return "too many stops";
	for (size_t i = 0; i < g->n_stop; i++)
		if (!g->stop[i].len)
			return "an empty stop string";
	if (g->has_text && !bytes_utf8(&g->text))
		return "text is not UTF-8";
	return g->sampling ? check_sampling(g->sampling) : NULL;
}

static const char *check_values(const struct wire_msg *m)
{
	switch (m->type) {
	case WIRE_HELLO:
		return check_hello(m->body.hello);
	case WIRE_DELTA:
		return check_delta(m->body.delta);
	case WIRE_GENERATE:
		return check_generate(m->body.generate);
	case WIRE_REFUSED:
		if (m->body.refused->reason < HW__REFUSAL__BAD_REQUEST ||
		    m->body.refused->reason > HW__REFUSAL__DEADLINE)
			return "unknown reason";
		return utf8_ok(m->body.refused->message, strlen(m->body.refused->message)) ?
			       NULL : "message is not UTF-8";
	case WIRE_DONE:
		if (m->body.done->finish < HW__FINISH__STOP ||
		    m->body.done->finish > HW__FINISH__FAILED)
			return "unknown finish";
		return m->body.done->choice < MAX_CHOICES ? NULL : "choice out of range";
	case WIRE_WELCOME:
		return m->body.welcome->beat_ms && m->body.welcome->dead_ms ?
			       NULL : "a beat of zero";
	case WIRE_BOX_REPORT:
		return check_box_report(m->body.box_report);
	case WIRE_BOX_REPLY:
		return !m->body.box_reply->message || text_ok(m->body.box_reply->message) ?
			       NULL : "message is too long or not UTF-8";
	case WIRE_BOX_COMMAND:
		return check_box_command(m->body.box_command);
	case WIRE_BOX_USE:
		return check_box_use(m->body.box_use);
	default:
		return NULL;
	}
}

/* ---- reading ----------------------------------------------------------------- */

static int check_header(enum wire_side from, const unsigned char *h, size_t n_header,
			size_t n_body, struct err *e)
{
	const struct wire_kind *k;

	if (n_header != WIRE_HEADER_BYTES || h[0] != 'H' || h[1] != 'W')
		return err_set(e, -EPROTO, "not a Hearth frame");
	if (h[2] != WIRE_VERSION)
		return err_set(e, -EPROTONOSUPPORT, "peer speaks wire version %u, this side %u",
			       h[2], WIRE_VERSION);
	k = kind_of(h[3]);
	if (!k || !(k->from & from))
		return err_set(e, -EPROTO, "message type %u is unknown or from the wrong side",
			       h[3]);
	if (get_le32(h + 8) != n_body)
		return err_set(e, -EPROTO, "%s: header says %u bytes, frame has %zu", k->name,
			       get_le32(h + 8), n_body);
	if (n_body > k->limit)
		return err_set(e, -EMSGSIZE, "%s: %zu bytes, limit %zu", k->name, n_body, k->limit);
	return 0;
}

int wire_unpack(enum wire_side from, uint32_t *next_seq, const void *header, size_t n_header,
		const void *body, size_t n_body, struct wire_msg *ret, struct err *e)
{
	const unsigned char *h = header;
	struct wire_msg m = { 0 };
	const char *why;
	int r;

	r = check_header(from, h, n_header, n_body, e);
	if (r < 0)
		return r;
	m.type = h[3];
	if (get_le32(h + 4) != *next_seq)
		return err_set(e, -EILSEQ, "%s: sequence number %u where %u was due",
			       kinds[m.type].name, get_le32(h + 4), *next_seq);
	if (unpack_body(&m, body, n_body) < 0)
		return err_set(e, -EPROTO, "%s: body does not unpack", kinds[m.type].name);
	why = check_values(&m);
	if (why) {
		wire_msg_done(&m);
		return err_set(e, -EPROTO, "%s: %s", kinds[m.type].name, why);
	}
	++*next_seq;
	*ret = m;
	return 0;
}
