/* status.c - what is going on: /admin/status for hearthctl, /metrics for Prometheus. */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "router/router.h"

static void put_text(struct buf *out, const char *name, const char *text)
{
	buf_printf(out, "\"%s\":", name);
	jx_put_str(out, text, strlen(text));
	buf_putc(out, ',');
}

static const char *worker_state(const struct worker *w)
{
	if (w->doomed)
		return "lost";
	if (w->draining)
		return "draining";
	return route_breaker_until(&w->breaker) > clock_ns() ? "resting" : "up";
}

static void put_worker(struct buf *out, const struct worker *w)
{
	uint64_t now = clock_ns();

	buf_putc(out, '{');
	put_text(out, "name", w->name);
	put_text(out, "model", w->model);
	put_text(out, "state", worker_state(w));
	put_text(out, "numeric_class", w->numeric_class);
	put_text(out, "version", w->version);
	buf_printf(out, "\"pid\":%d,\"up_s\":%" PRIu64 ",\"heard_ms\":%" PRIu64 ",", w->pid,
		   (uint64_t)((now - w->since_ns) / NS_PER_S),
		   (uint64_t)((now - w->heard_ns) / NS_PER_MS));
	buf_printf(out, "\"requests\":%u,\"running\":%u,\"waiting\":%u,\"max_running\":%u,"
		   "\"max_queue\":%u,\"max_context\":%u,\"free_blocks\":%u,\"total_blocks\":%u,",
		   w->n_gens, w->running, w->waiting, w->max_running, w->max_queue, w->max_context,
		   w->free_blocks, w->total_blocks);
	buf_printf(out, "\"prompt_tokens\":%" PRIu64 ",\"output_tokens\":%" PRIu64
		   ",\"decode_tokens_s\":%.1f,\"prefill_tokens_s\":%.1f}", w->prompt_tokens,
		   w->output_tokens, w->decode_tokens_s, w->prefill_tokens_s);
}

static void put_box_model(struct buf *out, const struct box *x, const Hw__BoxModel *m)
{
	buf_putc(out, '{');
	put_text(out, "box", x->name);
	put_text(out, "alias", m->alias);
	put_text(out, "state", box_state_name(m->state));
	put_text(out, "worker", m->worker);
	put_text(out, "reason", m->reason ? m->reason : "");
	if (m->state == HW__MODEL_STATE__LOADING)
		buf_printf(out, "\"progress\":%u.%u,", m->permille / 10, m->permille % 10);
	if (m->has_ready_ms)
		buf_printf(out, "\"ready_ms\":%u,", m->ready_ms);
	if (m->has_idle_s)
		buf_printf(out, "\"idle_s\":%u,", m->idle_s);
	if (m->has_pid)
		buf_printf(out, "\"pid\":%u,", m->pid);
	buf_printf(out, "\"pinned\":%s,\"drained\":%s,\"on_demand\":%s,\"failures\":%u,"
		   "\"ttl_s\":%u,\"bytes\":%" PRIu64 "}",
		   m->pinned ? "true" : "false", m->drained ? "true" : "false",
		   m->on_demand ? "true" : "false", m->failures, m->ttl_s, m->bytes);
}

static void put_box(struct buf *out, const struct box *x)
{
	const Hw__BoxReport *r = x->report;
	uint64_t now = clock_ns();

	buf_putc(out, '{');
	put_text(out, "name", x->name);
	put_text(out, "version", x->version);
	buf_printf(out, "\"heard_ms\":%" PRIu64 ",\"up_s\":%" PRIu64,
		   (uint64_t)((now - x->heard_ns) / NS_PER_MS), r ? r->up_s : 0);
	if (r)
		buf_printf(out, ",\"memory_total\":%" PRIu64 ",\"memory_free\":%" PRIu64
			   ",\"memory_available\":%" PRIu64 ",\"memory_cached\":%" PRIu64
			   ",\"pressure_some\":%.2f,\"pressure_full\":%.2f,\"load_1\":%.2f,"
			   "\"max_models\":%u", r->memory_total, r->memory_free,
			   r->memory_available, r->memory_cached, r->pressure_some,
			   r->pressure_full, r->load_1, r->max_models);
	buf_puts(out, ",\"models\":[");
	for (size_t i = 0; r && i < r->n_model; i++) {
		buf_puts(out, i ? "," : "");
		put_box_model(out, x, r->model[i]);
	}
	buf_puts(out, "]}");
}

static void put_upstream(const struct router *rt, struct buf *out, const struct upstream_conf *u)
{
	struct upstream_state *s = cloud_state(rt->cloud, u->name);
	uint64_t until = s ? route_breaker_until(&s->breaker) : 0;

	buf_putc(out, '{');
	put_text(out, "name", u->name);
	put_text(out, "url", u->url);
	put_text(out, "state",
		 until > clock_ns()	   ? "resting"
		 : s && s->breaker.open_ms ? "suspect"
					   : "up");
	buf_printf(out, "\"in_flight\":%u,\"requests\":%" PRIu64 ",\"failures\":%" PRIu64 "}",
		   s ? s->in_flight : 0, s ? s->requests : 0, s ? s->failures : 0);
}

static void put_alias(struct buf *out, const struct alias *a)
{
	buf_putc(out, '{');
	put_text(out, "name", a->name);
	buf_puts(out, "\"chain\":[");
	for (size_t i = 0; i < a->n_steps; i++) {
		const struct chain_step *s = &a->steps[i];

		buf_printf(out, "%s{\"kind\":\"%s\",", i ? "," : "",
			   s->upstream ? "upstream" : "worker");
		put_text(out, "name", s->upstream ? s->upstream->name : s->model);
		buf_puts(out, "\"model\":");
		jx_put_str(out, s->model, strlen(s->model));
		buf_putc(out, '}');
	}
	buf_puts(out, "]}");
}

void status_put_json(struct router *rt, struct buf *out)
{
	const struct settings *s = rt->settings;
	const char *comma = "";
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	buf_printf(out,
		   "{\"version\":\"" PACKAGE_VERSION "\",\"up_s\":%" PRIu64
		   ",\"time\":%lld.%03ld,\"draining\":%s,\"generation\":%u,"
		   "\"connections\":%u,\"requests\":%u,\"workers\":[",
		   (uint64_t)((clock_ns() - rt->started_ns) / NS_PER_S), (long long)now.tv_sec,
		   now.tv_nsec / 1000000, rt->draining ? "true" : "false", rt->generation,
		   http_server_connections(rt->http), rt->n_jobs);
	for (const struct worker *w = fleet_workers(rt->fleet); w; w = w->next, comma = ",") {
		buf_puts(out, comma);
		put_worker(out, w);
	}
	buf_puts(out, "],\"boxes\":[");
	comma = "";
	for (const struct box *x = boxes_all(fleet_boxes(rt->fleet)); x; x = x->next, comma = ",") {
		buf_puts(out, comma);
		put_box(out, x);
	}
	buf_puts(out, "],\"upstreams\":[");
	for (size_t i = 0; i < s->n_upstreams; i++) {
		buf_puts(out, i ? "," : "");
		put_upstream(rt, out, &s->upstreams[i]);
	}
	buf_puts(out, "],\"aliases\":[");
	for (size_t i = 0; i < s->n_aliases; i++) {
		buf_puts(out, i ? "," : "");
		put_alias(out, &s->aliases[i]);
	}
	buf_puts(out, "]}");
}

static void put_worker_gauge(struct router *rt, struct buf *out, const char *name,
			     const char *help, double (*get)(const struct worker *))
{
	char labels[320];

	metrics_put_head(out, name, help);
	for (const struct worker *w = fleet_workers(rt->fleet); w; w = w->next) {
		snprintf(labels, sizeof(labels), "worker=\"%s\",model=\"%s\"", w->name, w->model);
		metrics_put_gauge(out, name, labels, get(w));
	}
}

static double get_up(const struct worker *w)
{
	return !w->draining && !w->doomed;
}

static double get_running(const struct worker *w)
{
	return w->running;
}

static double get_waiting(const struct worker *w)
{
	return w->waiting;
}

static double get_inflight(const struct worker *w)
{
	return w->n_gens;
}

static void put_boxes(struct router *rt, struct buf *out)
{
	char labels[320];

	metrics_put_head(out, "hearth_model_state", "1 for the state that a box's model is in");
	for (const struct box *x = boxes_all(fleet_boxes(rt->fleet)); x; x = x->next) {
		for (size_t i = 0; x->report && i < x->report->n_model; i++) {
			const Hw__BoxModel *m = x->report->model[i];

			snprintf(labels, sizeof(labels), "box=\"%s\",alias=\"%s\",state=\"%s\"",
				 x->name, m->alias, box_state_name(m->state));
			metrics_put_gauge(out, "hearth_model_state", labels, 1);
		}
	}
	metrics_put_head(out, "hearth_box_memory_available_bytes", "MemAvailable of a box");
	for (const struct box *x = boxes_all(fleet_boxes(rt->fleet)); x; x = x->next) {
		snprintf(labels, sizeof(labels), "box=\"%s\"", x->name);
		if (x->report)
			metrics_put_gauge(out, "hearth_box_memory_available_bytes", labels,
					  (double)x->report->memory_available);
	}
}

static void put_breakers(struct router *rt, struct buf *out)
{
	char labels[160];

	metrics_put_head(out, "hearth_breaker_open",
			 "1 while an upstream is passed over after failures");
	for (size_t i = 0; i < rt->settings->n_upstreams; i++) {
		struct upstream_state *s = cloud_state(rt->cloud, rt->settings->upstreams[i].name);

		snprintf(labels, sizeof(labels), "upstream=\"%s\"",
			 rt->settings->upstreams[i].name);
		metrics_put_gauge(out, "hearth_breaker_open", labels, s && s->breaker.open_ms);
	}
}

void status_put_metrics(struct router *rt, struct buf *out)
{
	metrics_put(rt->metrics, out);
	put_worker_gauge(rt, out, "hearth_worker_up", "1 while a worker takes requests", get_up);
	put_worker_gauge(rt, out, "hearth_worker_running", "answers that a worker makes now",
			 get_running);
	put_worker_gauge(rt, out, "hearth_worker_queue_depth", "answers that wait at a worker",
			 get_waiting);
	put_worker_gauge(rt, out, "hearth_worker_inflight",
			 "requests that the router has given to a worker", get_inflight);
	put_boxes(rt, out);
	put_breakers(rt, out);
	metrics_put_head(out, "hearth_inflight", "requests under way");
	metrics_put_gauge(out, "hearth_inflight", "", rt->n_jobs);
	metrics_put_head(out, "hearth_connections", "client connections");
	metrics_put_gauge(out, "hearth_connections", "", http_server_connections(rt->http));
	metrics_put_head(out, "hearth_config_generation",
			 "counts up with every configuration that was taken over");
	metrics_put_gauge(out, "hearth_config_generation", "", rt->generation);
	buf_puts(out, "# HELP hearth_build version of the program\n"
		      "# TYPE hearth_build info\nhearth_build_info{version=\"" PACKAGE_VERSION
		      "\"} 1\n# EOF\n");
}
