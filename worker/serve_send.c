/* serve_send.c - every message that a worker sends. */
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/utf8.h"
#include "worker/serve_int.h"

#define MAX_DELTA_TEXT (3u << 20)	/* bytes; a frame may have 4 MiB */

static void post(struct serve *s, enum wire_type t, const ProtobufCMessage *m)
{
	int r;

	if (s->state == LINK_DOWN || s->link_failed)
		return;
	r = link_client_send(s->link, t, m);
	if (r < 0) {
		log_warn("router: a %s cannot be sent (%s), connecting anew", wire_type_name(t),
			 strerror(-r));
		s->link_failed = true;
	}
}

void send_hello(struct serve *s)
{
	static const char *const all[] = { "completion", "logprobs", "n", "chat", "tools",
					   "reasoning" };
	const struct sched_config *c = engine_config(s->engine);
	Hw__Hello m = HW__HELLO__INIT;

	m.worker = (char *)(uintptr_t)s->o->name;
	m.boot = s->boot;
	m.model = (char *)(uintptr_t)s->o->alias;
	m.numeric_class = (char *)(uintptr_t)s->o->numeric_class;
	m.max_context = sched_max_tokens(c);
	m.max_running = s->o->max_running;
	m.max_queue = c->max_queue;
	m.capability = (char **)(uintptr_t)all;
	m.n_capability = s->model->chat ? 6 : 3;
	m.version = (char *)(uintptr_t)s->o->version;
	m.has_created = 1;
	m.created = (uint64_t)clock_wall_s();
	post(s, WIRE_HELLO, &m.base);
}

void send_beat(struct serve *s)
{
	struct sched_stats st;
	Hw__WorkerBeat m = HW__WORKER_BEAT__INIT;

	engine_stats(s->engine, &st);
	m.has_running = m.has_waiting = m.has_free_blocks = m.has_total_blocks = 1;
	m.running = st.n_running;
	m.waiting = st.n_waiting;
	m.free_blocks = st.n_free_blocks;
	m.total_blocks = st.n_blocks;
	m.has_prompt_tokens = m.has_output_tokens = 1;
	m.prompt_tokens = st.n_prompt_tokens;
	m.output_tokens = st.n_output_tokens;
	m.has_decode_tokens_s = m.has_prefill_tokens_s = 1;
	m.decode_tokens_s = s->decode_s;
	m.prefill_tokens_s = s->prefill_s;
	m.has_draining = 1;
	m.draining = s->draining;
	post(s, WIRE_WORKER_BEAT, &m.base);
}

void send_goodbye(struct serve *s, const char *reason)
{
	Hw__Goodbye m = HW__GOODBYE__INIT;

	m.reason = (char *)(uintptr_t)reason;
	post(s, WIRE_GOODBYE, &m.base);
}

void send_accepted(struct serve *s, const struct job *j, uint64_t seed, const char *const *notes,
		   size_t n_notes)
{
	Hw__Accepted m = HW__ACCEPTED__INIT;

	m.request = j->request;
	m.prompt_tokens = j->n_prompt;
	m.has_seed = 1;
	m.seed = seed;
	m.note = (char **)(uintptr_t)notes;
	m.n_note = n_notes;
	post(s, WIRE_ACCEPTED, &m.base);
}

void send_refused(struct serve *s, uint64_t request, Hw__Refusal reason, const char *message,
		  const char *param, uint32_t retry_after_ms)
{
	Hw__Refused m = HW__REFUSED__INIT;

	m.request = request;
	m.reason = reason;
	m.message = (char *)(uintptr_t)message;
	m.param = (char *)(uintptr_t)param;
	m.has_retry_after_ms = retry_after_ms > 0;
	m.retry_after_ms = retry_after_ms;
	post(s, WIRE_REFUSED, &m.base);
}

void send_progress(struct serve *s, const struct job *j, uint32_t queue_position)
{
	Hw__Progress m = HW__PROGRESS__INIT;

	m.request = j->request;
	m.prompt_done = j->prompt_done;
	m.prompt_tokens = j->n_prompt;
	m.has_queue_position = 1;
	m.queue_position = queue_position;
	post(s, WIRE_PROGRESS, &m.base);
}

/* ---- Delta -------------------------------------------------------------------------- */

/* The messages that one Delta is made of, in one allocation each. */
struct delta_parts {
	Hw__Piece *piece;
	Hw__Piece **pieces;
	Hw__TokenLogprob *logprob;
	Hw__TokenLogprob **logprobs;
	Hw__TopToken *top;
	Hw__TopToken **tops;
};

static void parts_done(struct delta_parts *p)
{
	free(p->piece);
	free(p->pieces);
	free(p->logprob);
	free(p->logprobs);
	free(p->top);
	free(p->tops);
}

static bool parts_alloc(struct delta_parts *p, const struct gen_out *out)
{
	size_t n_tops = 1;

	for (size_t i = 0; i < out->n_logprobs; i++)
		n_tops += out->logprobs[i].n_top;
	p->piece = calloc(out->n_pieces + 1, sizeof(*p->piece));
	p->pieces = calloc(out->n_pieces + 1, sizeof(*p->pieces));
	p->logprob = calloc(out->n_logprobs + 1, sizeof(*p->logprob));
	p->logprobs = calloc(out->n_logprobs + 1, sizeof(*p->logprobs));
	p->top = calloc(n_tops, sizeof(*p->top));
	p->tops = calloc(n_tops, sizeof(*p->tops));
	return p->piece && p->pieces && p->logprob && p->logprobs && p->top && p->tops;
}

/* As many bytes of n as may go, at most `max`, never half a character. */
static size_t cut_text(const char *p, size_t n, size_t max)
{
	if (n <= max)
		return n;
	while (max > 0 && ((unsigned char)p[max] & 0xc0) == 0x80)
		max--;
	return max;
}

static void fill_piece(const struct gen_out *out, struct gen_piece *from, Hw__Piece *to, size_t n)
{
	static const Hw__Channel channels[] = {
		[GEN_CONTENT] = HW__CHANNEL__CONTENT,
		[GEN_REASONING] = HW__CHANNEL__REASONING,
		[GEN_CALL_BEGIN] = HW__CHANNEL__CALL_BEGIN,
		[GEN_CALL_ARGS] = HW__CHANNEL__CALL_ARGS,
	};

	hw__piece__init(to);
	to->channel = channels[from->channel];
	to->text.data = (uint8_t *)out->text.p + from->from;
	to->text.len = n;
	if (from->channel >= GEN_CALL_BEGIN) {
		to->has_call = 1;
		to->call = from->call;
	}
	if (from->channel == GEN_CALL_BEGIN)
		to->call_id = from->call_id;
}

/* Pieces from the front, MAX_DELTA_TEXT bytes of them at most.  The last one may go in part;
 * how many bytes of it is answered in *ret_part (0: whole). */
static size_t fill_pieces(const struct gen_out *out, struct delta_parts *p, size_t *ret_part)
{
	size_t room = MAX_DELTA_TEXT, i;

	*ret_part = 0;
	for (i = 0; i < out->n_pieces && room; i++) {
		struct gen_piece *from = &out->pieces[i];
		size_t n = cut_text(out->text.p + from->from, from->n, room);

		if (!n && from->n)
			break;
		fill_piece(out, from, &p->piece[i], n);
		p->pieces[i] = &p->piece[i];
		room -= n;
		if (n < from->n) {
			*ret_part = n;
			return i + 1;
		}
	}
	return i;
}

static ProtobufCBinaryData token_bytes(const struct serve *s, uint32_t id)
{
	ProtobufCBinaryData d = { 0, NULL };
	size_t n = 0;
	const char *p = tokenizer_bytes(s->model->tokenizer, id, &n);

	if (p) {
		d.len = n;
		d.data = (uint8_t *)(uintptr_t)p;
	}
	return d;
}

/* A probability that rounds to nothing has the logarithm -inf, which JSON cannot say. */
static float printable(float logprob)
{
	return logprob > -9999.0f ? logprob : -9999.0f;
}

static void fill_logprobs(const struct serve *s, const struct gen_out *out, struct delta_parts *p)
{
	size_t k = 0;

	for (size_t i = 0; i < out->n_logprobs; i++) {
		const struct gen_logprob *from = &out->logprobs[i];
		Hw__TokenLogprob *to = &p->logprob[i];

		hw__token_logprob__init(to);
		to->token = token_bytes(s, from->token);
		to->logprob = printable(from->logprob);
		to->n_top = from->n_top;
		to->top = &p->tops[k];
		for (uint32_t t = 0; t < from->n_top; t++, k++) {
			hw__top_token__init(&p->top[k]);
			p->top[k].token = token_bytes(s, from->top[t].id);
			p->top[k].logprob = printable(from->top[t].logprob);
			p->tops[k] = &p->top[k];
		}
		p->logprobs[i] = to;
	}
}

/* Takes the first n pieces off, of the last one only `part` bytes when that is not 0. */
static void take_off(struct gen_out *out, size_t n, size_t part)
{
	if (part) {
		n--;
		out->pieces[n].from += part;
		out->pieces[n].n -= part;
	}
	memmove(out->pieces, out->pieces + n, (out->n_pieces - n) * sizeof(*out->pieces));
	out->n_pieces -= n;
}

void send_delta(struct serve *s, struct job *j, uint32_t choice)
{
	struct gen_out *out = generation_out(j->choices[choice].gen);
	struct delta_parts p = { 0 };
	Hw__Delta m = HW__DELTA__INIT;
	size_t part = 0;
	bool all;

	if (!parts_alloc(&p, out)) {
		log_error("request %llx: no memory for a delta, connecting anew",
			  (unsigned long long)j->request);
		s->link_failed = true;
		parts_done(&p);
		return;
	}
	m.request = j->request;
	m.choice = j->first_choice + choice;
	m.seq = j->seq++;
	m.n_piece = fill_pieces(out, &p, &part);
	m.piece = p.pieces;
	all = m.n_piece == out->n_pieces && !part;
	if (all) {	/* ids go with the end of the text they stand for */
		fill_logprobs(s, out, &p);
		m.n_token = out->tokens.n;
		m.token = out->tokens.p;
		m.n_logprob = out->n_logprobs;
		m.logprob = p.logprobs;
	}
	post(s, WIRE_DELTA, &m.base);
	if (all)
		gen_out_clear(out);
	else
		take_off(out, m.n_piece, part);
	parts_done(&p);
}

static double ms_between(uint64_t from, uint64_t to)
{
	return to > from ? (double)(to - from) / (double)NS_PER_MS : 0.0;
}

void send_done(struct serve *s, struct job *j, uint32_t choice)
{
	struct choice *c = &j->choices[choice];
	struct gen_counts n = generation_counts(c->gen);
	uint64_t now = clock_ns();
	Hw__Done m = HW__DONE__INIT;

	m.request = j->request;
	m.choice = j->first_choice + choice;
	m.seq = j->seq++;
	m.finish = c->finish;
	m.output_tokens = n.n_output;
	m.has_cached_tokens = m.has_reasoning_tokens = 1;
	m.reasoning_tokens = n.n_reasoning;
	m.message = (char *)(uintptr_t)c->why;
	m.has_prefill_ms = m.has_decode_ms = 1;
	m.prefill_ms = ms_between(j->accepted_ns, j->first_token_ns ? j->first_token_ns : now);
	m.decode_ms = j->first_token_ns ? ms_between(j->first_token_ns, now) : 0;
	post(s, WIRE_DONE, &m.base);
	c->done = true;
}
