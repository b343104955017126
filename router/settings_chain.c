/* settings_chain.c - the servers that may be asked, and the chains of them behind each name. */
#include <stdlib.h>
#include <string.h>

#include "lib/own.h"
#include "proto/wire.h"
#include "router/route.h"
#include "router/settings_int.h"

/* Zeroed elements for the named sections of a kind, and how many. */
static void *room_for(const struct conf *c, const char *section, size_t size, size_t *ret_n)
{
	size_t n = 0;

	while (conf_name(c, section, n))
		n++;
	*ret_n = n;
	return calloc(n ? n : 1, size);
}

static int parse_able(const char *text, uint32_t *ret, struct err *e)
{
	char **words;
	size_t n;
	int r = settings_split(text, " \t,", &words, &n);

	if (r < 0)
		return no_memory(e);
	*ret = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t bit = route_able_bit(words[i]);

		if (!bit && r == 0)
			r = err_set(e, -EINVAL, "able: '%s' is not known", words[i]);
		*ret |= bit;
	}
	settings_free_list(words, n);
	return r;
}

#define N(key, member, scale) { key, offsetof(struct upstream_conf, member), scale }
static const struct settings_number upstream_numbers[] = {
	N("connect_ms", connect_ms, 1), N("first_token_ms", first_ms, 1),
	N("idle_ms", idle_ms, 1), N("max_context", max_context, 1),
};

static int load_upstream(const struct conf *c, const char *name, struct upstream_conf *u,
			 struct err *e)
{
	const char *url = conf_text(c, "upstream", name, "url");
	const char *key_file = conf_text(c, "upstream", name, "key_file");
	int r;

	if (!wire_alias_ok(name) || strchr(name, '/'))	/* a chain says upstream:NAME/ITS-MODEL */
		return err_set(e, -EINVAL, "[upstream %s]: '%s' cannot be a name: " WIRE_ALIAS_RULE
			       ", of an upstream without /", name, name);
	if (!url || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0))
		return err_set(e, -EINVAL, "[upstream %s]: url must begin with http:// or https://",
			       name);
	u->name = strdup(name);
	u->url = strdup(url);
	if (!u->name || !u->url)
		return no_memory(e);
	while (*u->url && u->url[strlen(u->url) - 1] == '/')
		u->url[strlen(u->url) - 1] = '\0';
	if (key_file) {
		r = settings_read_text(key_file, "key_file", &u->key, e);
		if (r < 0)
			return err_prefix(e, r, "[upstream %s]", name);
		u->key[strcspn(u->key, "\r\n")] = '\0';
	}
	settings_numbers(c, "upstream", name, upstream_numbers,
			 sizeof(upstream_numbers) / sizeof(*upstream_numbers), u);
	u->probe = conf_bool(c, "upstream", name, "probe");
	r = parse_able(conf_text(c, "upstream", name, "able"), &u->able, e);
	return r < 0 ? err_prefix(e, r, "[upstream %s]", name) : 0;
}

int settings_load_upstreams(struct settings *s, struct err *e)
{
	size_t n;
	int r = 0;

	s->upstreams = room_for(s->conf, "upstream", sizeof(*s->upstreams), &n);
	if (!s->upstreams)
		return no_memory(e);
	while (r == 0 && s->n_upstreams < n) {
		size_t i = s->n_upstreams++;

		r = load_upstream(s->conf, conf_name(s->conf, "upstream", i), &s->upstreams[i], e);
	}
	return r;
}

static const struct upstream_conf *find_upstream(const struct settings *s, const char *name,
						 size_t n)
{
	for (size_t i = 0; i < s->n_upstreams; i++)
		if (strlen(s->upstreams[i].name) == n && !strncmp(s->upstreams[i].name, name, n))
			return &s->upstreams[i];
	return NULL;
}

static int load_step(const struct settings *s, const struct alias *a, const char *word,
		     struct chain_step *step, struct err *e)
{
	const char *model;

	if (!strncmp(word, "worker:", 7)) {
		if (!wire_alias_ok(word + 7))
			return err_set(e, -EINVAL, "[alias %s]: '%s' cannot be an alias: "
				       WIRE_ALIAS_RULE, a->name, word + 7);
		step->model = strdup(word + 7);
	} else if (!strncmp(word, "upstream:", 9)) {
		model = strchr(word + 9, '/');
		step->upstream = find_upstream(s, word + 9, model ? (size_t)(model - word - 9) :
							     strlen(word + 9));
		if (!step->upstream)
			return err_set(e, -EINVAL, "[alias %s]: there is no [upstream] for '%s'",
				       a->name, word);
		step->model = strdup(model && model[1] ? model + 1 : a->name);
	} else {
		return err_set(e, -EINVAL,
			       "[alias %s]: '%s' is neither worker:MODEL nor upstream:NAME",
			       a->name, word);
	}
	return step->model ? 0 : no_memory(e);
}

static int load_alias(const struct settings *s, const char *name, struct alias *a, struct err *e)
{
	const char *chain = conf_text(s->conf, "alias", name, "chain");
	const char *load = conf_text(s->conf, "alias", name, "load");
	char **words;
	size_t n;
	int r = 0;

	a->load = !strcmp(load, "wait") ? LOAD_WAIT : !strcmp(load, "never") ? LOAD_NEVER :
										LOAD_BACKGROUND;
	a->name = strdup(name);
	if (!wire_alias_ok(name))
		return err_set(e, -EINVAL, "[alias %s]: '%s' cannot be an alias: " WIRE_ALIAS_RULE,
			       name, name);
	if (!chain)
		return err_set(e, -EINVAL, "[alias %s]: chain is missing", name);
	if (!a->name || settings_split(chain, " \t,", &words, &n) < 0)
		return no_memory(e);
	a->steps = calloc(n ? n : 1, sizeof(*a->steps));
	if (!a->steps)
		r = no_memory(e);
	while (r == 0 && a->n_steps < n) {
		size_t i = a->n_steps++;

		r = load_step(s, a, words[i], &a->steps[i], e);
	}
	if (r == 0 && n == 0)
		r = err_set(e, -EINVAL, "[alias %s]: chain is empty", name);
	settings_free_list(words, n);
	return r;
}

int settings_load_aliases(struct settings *s, struct err *e)
{
	size_t n;
	int r = 0;

	s->aliases = room_for(s->conf, "alias", sizeof(*s->aliases), &n);
	if (!s->aliases)
		return no_memory(e);
	while (r == 0 && s->n_aliases < n) {
		size_t i = s->n_aliases++;

		r = load_alias(s, conf_name(s->conf, "alias", i), &s->aliases[i], e);
	}
	return r;
}
