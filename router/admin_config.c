/* admin_config.c - the configuration over HTTP: what runs, what the files would change, and taking
 * them.  The files are read where they will be used: in this process, with its rights and its
 * credentials.  No secret leaves: keys are named, never shown.
 */
#include <string.h>

#include "lib/json.h"
#include "lib/own.h"
#include "router/router.h"
#include "router/service.h"

struct put {
	struct buf *out;
	size_t n;
	bool both;		/* was and now, or what is */
};

static void put_text(struct buf *out, const char *name, const char *text)
{
	buf_printf(out, "\"%s\":", name);
	if (text)
		jx_put_str(out, text, strlen(text));
	else
		buf_puts(out, "null");
}

static void put_value(void *arg, const struct conf_key *k, const char *name, const char *was,
		      const char *now)
{
	struct put *p = arg;
	bool same = was == now || (was && now && !strcmp(was, now));

	buf_puts(p->out, p->n++ ? ",{" : "{");
	put_text(p->out, "section", k->section);
	buf_putc(p->out, ',');
	put_text(p->out, "name", name);
	buf_putc(p->out, ',');
	put_text(p->out, "key", k->key);
	buf_putc(p->out, ',');
	if (p->both) {
		put_text(p->out, "was", was);
		buf_putc(p->out, ',');
		put_text(p->out, "now", now);
	} else {
		put_text(p->out, "value", now);
		buf_printf(p->out, ",\"default\":%s", same ? "true" : "false");
	}
	buf_printf(p->out, ",\"reload\":%s}", k->reload ? "true" : "false");
}

static void reply(struct http_call *call, struct buf *b)
{
	http_reply(call, 200, NULL, "application/json", b->p ? b->p : "", b->n);
}

static void refuse(struct http_call *call, const struct err *why)
{
	struct oa_error e;

	oa_error_set(&e, 422, NULL, NULL, "%s", why->text);
	api_refuse(call, &e, NULL);
}

void admin_get_config(struct router *rt, struct http_call *call, const char *rest)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct put p = { .out = &b };

	(void)rest;
	buf_printf(&b,
		   "{\"generation\":%u,\"keys\":%zu,\"admin_keys\":%zu,\"boxes\":%zu,"
		   "\"values\":[",
		   rt->generation, rt->settings->n_keys, rt->settings->n_admin_keys,
		   rt->settings->n_curve_allowed);
	conf_each(rt->settings->conf, put_value, &p);
	buf_puts(&b, "]}");
	reply(call, &b);
}

/* ---- what would change ------------------------------------------------------------------ */

static const struct client_key *same_key(const struct settings *s, const struct client_key *k)
{
	for (size_t i = 0; i < s->n_keys; i++)
		if (!strcmp(s->keys[i].name, k->name) && !strcmp(s->keys[i].secret, k->secret))
			return &s->keys[i];
	return NULL;
}

/* Names of the keys of a that b has not. */
static void put_keys(struct buf *out, const char *name, const struct settings *a,
		     const struct settings *b)
{
	size_t n = 0;

	buf_printf(out, ",\"%s\":[", name);
	for (size_t i = 0; i < a->n_keys; i++) {
		if (same_key(b, &a->keys[i]))
			continue;
		buf_puts(out, n++ ? "," : "");
		jx_put_str(out, a->keys[i].name, strlen(a->keys[i].name));
	}
	buf_putc(out, ']');
}

/* {"name","was","now"} of the keys that stay and get another role. */
static void put_roles(struct buf *out, const struct settings *was, const struct settings *now)
{
	size_t n = 0;

	buf_puts(out, ",\"key_roles_changed\":[");
	for (size_t i = 0; i < was->n_keys; i++) {
		const struct client_key *a = &was->keys[i], *b = same_key(now, a);

		if (!b || a->role == b->role)
			continue;
		buf_puts(out, n++ ? ",{\"name\":" : "{\"name\":");
		jx_put_str(out, a->name, strlen(a->name));
		buf_printf(out, ",\"was\":\"%s\",\"now\":\"%s\"}", key_role_name(a->role),
			   key_role_name(b->role));
	}
	buf_putc(out, ']');
}

static bool has_box(const struct settings *s, const char *key)
{
	for (size_t i = 0; i < s->n_curve_allowed; i++)
		if (!strcmp(s->curve_allowed[i], key))
			return true;
	return false;
}

static void put_boxes(struct buf *out, const char *name, const struct settings *a,
		      const struct settings *b)
{
	size_t n = 0;

	buf_printf(out, ",\"%s\":[", name);
	for (size_t i = 0; i < a->n_curve_allowed; i++) {
		if (has_box(b, a->curve_allowed[i]))
			continue;
		buf_puts(out, n++ ? "," : "");
		jx_put_str(out, a->curve_allowed[i], strlen(a->curve_allowed[i]));
	}
	buf_putc(out, ']');
}

/* An upstream's key is in a file of its own, which may change while its name stays. */
static void put_upstreams(struct buf *out, const struct settings *was, const struct settings *now)
{
	size_t n = 0;

	buf_puts(out, ",\"upstream_keys_changed\":[");
	for (size_t i = 0; i < was->n_upstreams; i++) {
		const struct upstream_conf *a = &was->upstreams[i], *b = NULL;

		for (size_t k = 0; k < now->n_upstreams; k++)
			if (!strcmp(now->upstreams[k].name, a->name))
				b = &now->upstreams[k];
		if (!b || (a->key && b->key ? !strcmp(a->key, b->key) : a->key == b->key))
			continue;
		buf_puts(out, n++ ? "," : "");
		jx_put_str(out, a->name, strlen(a->name));
	}
	buf_putc(out, ']');
}

void admin_get_diff(struct router *rt, struct http_call *call, const char *rest)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	struct put p = { .out = &b, .both = true };
	const struct settings *was = rt->settings;
	struct settings *now;
	struct err e;

	(void)rest;
	if (service_look(&now, &e) < 0) {
		refuse(call, &e);
		return;
	}
	buf_printf(&b, "{\"generation\":%u,\"changes\":[", rt->generation);
	conf_diff(was->conf, now->conf, put_value, &p);
	buf_putc(&b, ']');
	put_keys(&b, "keys_added", now, was);
	put_keys(&b, "keys_removed", was, now);
	put_roles(&b, was, now);
	put_boxes(&b, "boxes_added", now, was);
	put_boxes(&b, "boxes_removed", was, now);
	put_upstreams(&b, was, now);
	buf_putc(&b, '}');
	reply(call, &b);
	settings_drop(now);
}

void admin_reload(struct router *rt, struct http_call *call)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	CLEANUP(buf_donep) struct buf restart = BUF_INIT;
	struct err e;

	if (service_reload(&restart, &e) < 0) {
		refuse(call, &e);
		return;
	}
	buf_printf(&b,
		   "{\"ok\":true,\"generation\":%u,\"keys\":%zu,\"admin_keys\":%zu,"
		   "\"needs_restart\":",
		   rt->generation, rt->settings->n_keys, rt->settings->n_admin_keys);
	jx_put_str(&b, restart.n ? restart.p : "", restart.n);
	buf_putc(&b, '}');
	reply(call, &b);
}
