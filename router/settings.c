/* settings.c - see settings.h. */
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "router/http_server.h"
#include "router/settings_int.h"

#define N(key, member, scale) { key, offsetof(struct settings, member), scale }
static const struct settings_number route_numbers[] = {
	N("grace_ms", grace_ms, 1), N("keepalive_ms", keepalive_ms, 1),
	N("deadline_s", deadline_ms, 1000), N("answer_s", answer_ms, 1000),
	N("accept_ms", accept_ms, 1), N("first_token_s", first_ms, 1000),
	N("idle_s", idle_ms, 1000), N("credit", credit, 1),
	N("load_wait_s", load_wait_ms, 1000), N("breaker_failures", breaker_failures, 1),
	N("breaker_ms", breaker_ms, 1), N("drain_s", drain_ms, 1000),
	N("settle_ms", settle_ms, 1),
};

void settings_numbers(const struct conf *c, const char *section, const char *name,
		      const struct settings_number *map, size_t n, void *to)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t *at = (uint32_t *)(void *)((char *)to + map[i].offset);

		*at = (uint32_t)conf_int(c, section, name, map[i].key) * map[i].scale;
	}
}

static int check_listen(const struct settings *s, struct err *e)
{
	for (size_t i = 0; i < s->n_listen; i++) {
		int r = http_check_address(s->listen[i], e);

		if (r < 0)
			return err_prefix(e, r, "http.listen");
		if (!s->n_keys && !http_is_loopback(s->listen[i]))
			return err_set(e, -EPERM,
				       "http.listen: %s is not loopback, so http.keys_file is needed",
				       s->listen[i]);
	}
	return 0;
}

static int load_all(struct settings *s, struct err *e)
{
	const char *keys_file = conf_text(s->conf, "http", NULL, "keys_file");
	const char *http = conf_text(s->conf, "http", NULL, "listen");
	const char *bus = conf_text(s->conf, "bus", NULL, "listen");
	int r = 0;

	if (settings_split(http, " \t,", &s->listen, &s->n_listen) < 0 ||
	    settings_split(bus, " \t,", &s->bus, &s->n_bus) < 0)
		return no_memory(e);
	settings_numbers(s->conf, "route", NULL, route_numbers,
			 sizeof(route_numbers) / sizeof(*route_numbers), s);
	s->trust_local = conf_bool(s->conf, "http", NULL, "trust_local");
	if (keys_file && *keys_file)
		r = settings_load_keys(s, keys_file, e);
	if (r == 0)
		r = check_listen(s, e);
	if (r == 0)
		r = settings_load_curve(s, e);
	if (r == 0)
		r = settings_load_upstreams(s, e);
	if (r == 0)
		r = settings_load_aliases(s, e);
	return r;
}

static void settings_dropp(struct settings **s)
{
	settings_drop(*s);
}

int settings_load(const char *path, const char *const *overrides, size_t n,
		  struct settings **ret, struct err *e)
{
	CLEANUP(settings_dropp) struct settings *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return no_memory(e);
	s->holders = 1;
	r = conf_load(&settings_table, path, &s->conf, e);
	for (size_t i = 0; i < n && r == 0; i++)
		r = conf_override(s->conf, overrides[i], e);
	if (r == 0)
		r = load_all(s, e);
	if (r < 0)
		return r;
	*ret = TAKE(s);
	return 0;
}

struct settings *settings_share(struct settings *s)
{
	s->holders++;
	return s;
}

static void free_parts(struct settings *s)
{
	for (size_t i = 0; i < s->n_keys; i++) {
		free(s->keys[i].name);
		settings_free_secret(s->keys[i].secret);
	}
	for (size_t i = 0; i < s->n_upstreams; i++) {
		free(s->upstreams[i].name);
		free(s->upstreams[i].url);
		settings_free_secret(s->upstreams[i].key);
	}
	for (size_t i = 0; i < s->n_aliases; i++) {
		for (size_t k = 0; k < s->aliases[i].n_steps; k++)
			free(s->aliases[i].steps[k].model);
		free(s->aliases[i].steps);
		free(s->aliases[i].name);
	}
}

struct settings *settings_drop(struct settings *s)
{
	if (!s || --s->holders > 0)
		return NULL;
	free_parts(s);
	settings_free_list(s->listen, s->n_listen);
	settings_free_list(s->bus, s->n_bus);
	settings_free_list(s->curve_allowed, s->n_curve_allowed);
	free(s->curve_public);
	settings_free_secret(s->curve_secret);
	free(s->keys);
	free(s->odd_roles);
	free(s->upstreams);
	free(s->aliases);
	conf_free(s->conf);
	free(s);
	return NULL;
}

const struct alias *settings_alias(const struct settings *s, const char *name)
{
	for (size_t i = 0; i < s->n_aliases; i++)
		if (!strcmp(s->aliases[i].name, name))
			return &s->aliases[i];
	return NULL;
}
