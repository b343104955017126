/* settings.c - see settings.h. */
#include "router/settings.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/own.h"
#include "lib/svc.h"
#include "router/http_server.h"
#include "router/route.h"

enum { MAX_KEY_FILE = 1 << 20 };

static const struct conf_section sections[] = {
	{ "http", false, "Towards clients" },
	{ "bus", false, "Towards workers" },
	{ "route", false, "How long, how often, how far" },
	{ "openai", false, "The OpenAI dialect" },
	{ "alias", true, "A name that clients ask for: an ordered chain of targets" },
	{ "upstream", true, "Another server that speaks the OpenAI dialect" },
	{ "log", false, "What is written to the journal" },
	{ NULL, false, NULL },
};

#define INT CONF_INT
#define TEXT CONF_TEXT
#define K(section, key, type, min, max, def, reload, help) \
	{ section, key, type, min, max, NULL, def, reload, help }
#define DAY_S 86400

static const struct conf_key keys[] = {
	K("http", "listen", TEXT, 1, 1000, "127.0.0.1:8080", false,
	  "host:port to listen on, several with a blank between; sockets of a systemd.socket(5) "
	  "unit take their place"),
	K("http", "keys_file", TEXT, 0, 0, NULL, true,
	  "file of client keys, a line each: NAME KEY; needed off loopback; this and other files "
	  "of secrets may be credential:NAME (systemd.exec(5), LoadCredential)"),
	K("http", "max_body_mib", INT, 1, 1024, "64", false, "largest request body, MiB"),
	K("http", "max_bodies_mib", INT, 1, 1048576, "1024", false,
	  "memory that request bodies may take together, MiB"),
	K("http", "max_header_kib", INT, 1, 1024, "32", false,
	  "largest request line with headers, KiB"),
	K("http", "header_s", INT, 1, DAY_S, "10", false,
	  "from a request's first byte to the end of its headers, s"),
	K("http", "body_s", INT, 1, DAY_S, "30", false, "longest silence inside a request body, s"),
	K("http", "idle_s", INT, 1, DAY_S, "120", false,
	  "a connection without a request is closed after, s"),
	K("http", "stall_s", INT, 1, DAY_S, "120", false,
	  "a reader that takes nothing is cut after, s"),
	K("http", "max_connections", INT, 1, 1000000, "16384", false,
	  "client connections at the same time"),
	K("http", "cors_origin", TEXT, 0, 0, "*", false,
	  "Access-Control-Allow-Origin; empty: no such header"),
	K("bus", "listen", TEXT, 1, 1000, "ipc:///run/hearth/bus", false,
	  "ipc:// or tcp:// endpoints, several with a blank between"),
	K("bus", "curve_file", TEXT, 0, 0, NULL, false,
	  "file of the router's CURVE keys: public and secret, a line each"),
	K("bus", "curve_allow_file", TEXT, 0, 0, NULL, false,
	  "file of the workers' public CURVE keys, a line each"),
	K("bus", "beat_ms", INT, 50, 60000, "1000", false, "a sign of life this often, ms"),
	K("bus", "dead_ms", INT, 100, 600000, "3000", false,
	  "a silent worker is given up after, ms"),
	K("route", "grace_ms", INT, 0, 240000, "8000", true,
	  "nothing is sent before the first token or this time, ms"),
	K("route", "keepalive_ms", INT, 100, 10000, "9000", true,
	  "a comment in a silent stream, ms"),
	K("route", "answer_s", INT, 1, DAY_S, "600", true,
	  "all attempts together, until the first token, s"),
	K("route", "deadline_s", INT, 1, DAY_S, "3600", true, "a request as a whole, s"),
	K("route", "accept_ms", INT, 10, 600000, "10000", true,
	  "a worker must accept or refuse within, ms"),
	K("route", "first_token_s", INT, 1, DAY_S, "300", true, "a worker's first token, s"),
	K("route", "idle_s", INT, 1, DAY_S, "120", true,
	  "longest silence of a worker in a stream, s"),
	K("route", "credit", INT, 2, 4096, "64", true,
	  "deltas a worker may be ahead of its reader"),
	K("route", "load_wait_s", INT, 0, DAY_S, "300", true,
	  "a request waits for a model that is being loaded at most this long, s"),
	K("route", "breaker_failures", INT, 1, 1000, "3", true,
	  "failures in a row that open a target's breaker"),
	K("route", "breaker_ms", INT, 10, 60000, "2000", true,
	  "first time a breaker stays open, doubling to 60 s"),
	K("route", "drain_s", INT, 0, DAY_S, "60", true,
	  "requests under way get this long when we stop, s"),
	K("route", "settle_ms", INT, 0, 60000, "2000", true,
	  "after a start behind sockets of the service manager, clients wait this long for workers "
	  "to connect, ms"),
	{"openai", "reasoning_fields", CONF_CHOICE, 0, 0, "both|reasoning_content|reasoning",
	 "both", true, "names under which reasoning text is sent"},
	K("alias", "chain", TEXT, 1, 4000, NULL, true,
	  "worker:MODEL and upstream:NAME or upstream:NAME/ITS-MODEL, in order, a blank between"),
	{"alias", "load", CONF_CHOICE, 0, 0, "background|wait|never", "background", true,
	 "a local model that is not loaded: go on to the next target while it loads, wait for it, "
	 "or leave it alone"},
	K("upstream", "url", TEXT, 1, 1000, NULL, true, "base URL, as https://api.example.com/v1"),
	K("upstream", "key_file", TEXT, 0, 0, NULL, true, "file that holds its API key"),
	K("upstream", "connect_ms", INT, 10, 60000, "5000", true, "time to connect, ms"),
	K("upstream", "first_token_ms", INT, 10, 3600000, "60000", true,
	  "time to its first token, ms"),
	K("upstream", "idle_ms", INT, 10, 3600000, "60000", true,
	  "longest silence in its stream, ms"),
	K("upstream", "able", TEXT, 0, 1000,
	  "chat completion tools logprobs n tool_choice json_object json_schema vision", true,
	  "what it can do, a blank between"),
	K("upstream", "max_context", INT, 0, 100000000, "0", true, "tokens; 0: unknown"),
	{"upstream", "probe", CONF_BOOL, 0, 0, NULL, "yes", true,
	 "after failures, ask GET URL/models before a request is risked"},
	{"log", "level", CONF_CHOICE, 0, 0, "error|warning|notice|debug", "notice", true,
	 "lines above this level are not written"},
	{.key = NULL},
};

const struct conf_table settings_table = { sections, keys };

static int no_memory(struct err *e)
{
	return err_set(e, -ENOMEM, "out of memory");
}

static void free_list(char **list, size_t n)
{
	for (size_t i = 0; list && i < n; i++)
		free(list[i]);
	free(list);
}

/* Words of `text` between any of `seps`. */
static int split(const char *text, const char *seps, char ***ret, size_t *ret_n)
{
	const char *p = text + strspn(text, seps);
	char **list = calloc(1, sizeof(*list));
	size_t n = 0;

	while (list && *p) {
		size_t len = strcspn(p, seps);
		char **more = realloc(list, (n + 2) * sizeof(*list));
		char *word = more ? strndup(p, len) : NULL;

		if (!word) {
			free_list(more ? more : list, n);
			return -ENOMEM;
		}
		list = more;
		list[n++] = word;
		list[n] = NULL;
		p += len;
		p += strspn(p, seps);
	}
	if (!list)
		return -ENOMEM;
	*ret = list;
	*ret_n = n;
	return 0;
}

static int read_text(const char *name, char **ret, struct err *e)
{
	CLEANUP(closep) int fd = -1;
	CLEANUP(buf_donep) struct buf b = BUF_INIT;
	char path[PATH_MAX];
	ssize_t n = svc_path(name, path, sizeof(path), e);

	if (n < 0)
		return (int)n;
	n = 1;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	while (n > 0) {
		if (b.n > MAX_KEY_FILE)
			return err_set(e, -EFBIG, "%s: more than %d bytes", path, MAX_KEY_FILE);
		if (buf_reserve(&b, 4096) < 0)
			return no_memory(e);
		n = read(fd, b.p + b.n, 4096);
		if (n < 0)
			return err_set(e, -errno, "%s: %s", path, strerror(errno));
		b.n += (size_t)n;
	}
	b.p[b.n] = '\0';
	*ret = buf_take(&b, NULL);
	return *ret ? 0 : no_memory(e);
}

/* Lines "NAME KEY"; what follows # is a comment. */
static int load_keys(struct settings *s, const char *path, struct err *e)
{
	CLEANUP(freep) char *text = NULL;
	char *save = NULL;
	int line_no = 0, r = read_text(path, &text, e);

	if (r < 0)
		return r;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *inner = NULL, *name, *secret;
		struct client_key *more;

		line_no++;
		line[strcspn(line, "#")] = '\0';
		name = strtok_r(line, " \t\r", &inner);
		secret = strtok_r(NULL, " \t\r", &inner);
		if (!name)
			continue;
		if (!secret || strlen(secret) < 8)
			return err_set(e, -EINVAL,
				       "%s:%d: write NAME KEY, the key with at least 8 characters",
				       path, line_no);
		more = realloc(s->keys, (s->n_keys + 1) * sizeof(*more));
		if (!more)
			return no_memory(e);
		s->keys = more;
		more[s->n_keys] = (struct client_key){ strdup(name), strdup(secret) };
		if (!more[s->n_keys].name || !more[s->n_keys++].secret)
			return no_memory(e);
	}
	if (!s->n_keys)
		return err_set(e, -EINVAL, "%s: no key in it", path);
	return 0;
}

static int load_curve(struct settings *s, struct err *e)
{
	const char *own = conf_text(s->conf, "bus", NULL, "curve_file");
	const char *allow = conf_text(s->conf, "bus", NULL, "curve_allow_file");
	CLEANUP(freep) char *text = NULL;
	CLEANUP(freep) char *list = NULL;
	char **pair = NULL;
	size_t n = 0;
	int r;

	if (!own)
		return allow ? err_set(e, -EINVAL, "bus.curve_allow_file without bus.curve_file")
			     : 0;
	if (!allow)
		return err_set(e, -EINVAL,
			       "bus.curve_file without bus.curve_allow_file lets anyone in");
	r = read_text(own, &text, e);
	if (r == 0)
		r = read_text(allow, &list, e);
	if (r < 0)
		return r;
	if (split(text, " \t\r\n", &pair, &n) < 0 ||
	    split(list, " \t\r\n", &s->curve_allowed, &s->n_curve_allowed) < 0) {
		free_list(pair, n);
		return no_memory(e);
	}
	if (n != 2 || strlen(pair[0]) != 40 || strlen(pair[1]) != 40) {
		free_list(pair, n);
		return err_set(e, -EINVAL, "%s: not two keys of 40 characters", own);
	}
	s->curve_public = pair[0];
	s->curve_secret = pair[1];
	free(pair);
	return 0;
}

static int parse_able(const char *text, uint32_t *ret, struct err *e)
{
	char **words;
	size_t n;
	int r = split(text, " \t,", &words, &n);

	if (r < 0)
		return no_memory(e);
	*ret = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t bit = route_able_bit(words[i]);

		if (!bit && r == 0)
			r = err_set(e, -EINVAL, "able: '%s' is not known", words[i]);
		*ret |= bit;
	}
	free_list(words, n);
	return r;
}

static uint32_t get_u32(const struct conf *c, const char *section, const char *name,
			const char *key)
{
	return (uint32_t)conf_int(c, section, name, key);
}

static int load_upstream(const struct conf *c, const char *name, struct upstream_conf *u,
			 struct err *e)
{
	const char *url = conf_text(c, "upstream", name, "url");
	const char *key_file = conf_text(c, "upstream", name, "key_file");
	int r;

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
		r = read_text(key_file, &u->key, e);
		if (r < 0)
			return err_prefix(e, r, "[upstream %s]", name);
		u->key[strcspn(u->key, "\r\n")] = '\0';
	}
	u->connect_ms = get_u32(c, "upstream", name, "connect_ms");
	u->first_ms = get_u32(c, "upstream", name, "first_token_ms");
	u->idle_ms = get_u32(c, "upstream", name, "idle_ms");
	u->max_context = get_u32(c, "upstream", name, "max_context");
	u->probe = conf_bool(c, "upstream", name, "probe");
	r = parse_able(conf_text(c, "upstream", name, "able"), &u->able, e);
	return r < 0 ? err_prefix(e, r, "[upstream %s]", name) : 0;
}

static size_t count_names(const struct conf *c, const char *section)
{
	size_t n = 0;

	while (conf_name(c, section, n))
		n++;
	return n;
}

static int load_upstreams(struct settings *s, struct err *e)
{
	size_t n = count_names(s->conf, "upstream");

	s->upstreams = calloc(n ? n : 1, sizeof(*s->upstreams));
	if (!s->upstreams)
		return no_memory(e);
	while (s->n_upstreams < n) {
		size_t i = s->n_upstreams++;
		int r = load_upstream(s->conf, conf_name(s->conf, "upstream", i), &s->upstreams[i],
				      e);

		if (r < 0)
			return r;
	}
	return 0;
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

	if (!strncmp(word, "worker:", 7) && word[7]) {
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
	if (!chain)
		return err_set(e, -EINVAL, "[alias %s]: chain is missing", name);
	if (!a->name || split(chain, " \t,", &words, &n) < 0)
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
	free_list(words, n);
	return r;
}

static int load_aliases(struct settings *s, struct err *e)
{
	size_t n = count_names(s->conf, "alias");

	s->aliases = calloc(n ? n : 1, sizeof(*s->aliases));
	if (!s->aliases)
		return no_memory(e);
	while (s->n_aliases < n) {
		size_t i = s->n_aliases++;
		int r = load_alias(s, conf_name(s->conf, "alias", i), &s->aliases[i], e);

		if (r < 0)
			return r;
	}
	return 0;
}

static void load_route(struct settings *s)
{
	const struct conf *c = s->conf;

	s->grace_ms = get_u32(c, "route", NULL, "grace_ms");
	s->keepalive_ms = get_u32(c, "route", NULL, "keepalive_ms");
	s->deadline_ms = get_u32(c, "route", NULL, "deadline_s") * 1000;
	s->answer_ms = get_u32(c, "route", NULL, "answer_s") * 1000;
	s->accept_ms = get_u32(c, "route", NULL, "accept_ms");
	s->first_ms = get_u32(c, "route", NULL, "first_token_s") * 1000;
	s->idle_ms = get_u32(c, "route", NULL, "idle_s") * 1000;
	s->credit = get_u32(c, "route", NULL, "credit");
	s->load_wait_ms = get_u32(c, "route", NULL, "load_wait_s") * 1000;
	s->breaker_failures = get_u32(c, "route", NULL, "breaker_failures");
	s->breaker_ms = get_u32(c, "route", NULL, "breaker_ms");
	s->settle_ms = get_u32(c, "route", NULL, "settle_ms");
	s->drain_ms = get_u32(c, "route", NULL, "drain_s") * 1000;
}

static int load_all(struct settings *s, struct err *e)
{
	const char *keys_file = conf_text(s->conf, "http", NULL, "keys_file");
	int r = 0;

	if (split(conf_text(s->conf, "http", NULL, "listen"), " \t,", &s->listen, &s->n_listen) <
		    0 ||
	    split(conf_text(s->conf, "bus", NULL, "listen"), " \t,", &s->bus, &s->n_bus) < 0)
		return no_memory(e);
	load_route(s);
	if (keys_file && *keys_file)
		r = load_keys(s, keys_file, e);
	for (size_t i = 0; i < s->n_listen && r == 0; i++)
		if (!s->n_keys && !http_is_loopback(s->listen[i]))
			r = err_set(e, -EPERM,
				    "http.listen: %s is not loopback, so http.keys_file is needed",
				    s->listen[i]);
	if (r == 0)
		r = load_curve(s, e);
	if (r == 0)
		r = load_upstreams(s, e);
	if (r == 0)
		r = load_aliases(s, e);
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

static void free_secret(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

static void free_parts(struct settings *s)
{
	for (size_t i = 0; i < s->n_keys; i++) {
		free(s->keys[i].name);
		free_secret(s->keys[i].secret);
	}
	for (size_t i = 0; i < s->n_upstreams; i++) {
		free(s->upstreams[i].name);
		free(s->upstreams[i].url);
		free_secret(s->upstreams[i].key);
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
	free_list(s->listen, s->n_listen);
	free_list(s->bus, s->n_bus);
	free_list(s->curve_allowed, s->n_curve_allowed);
	free(s->curve_public);
	free_secret(s->curve_secret);
	free(s->keys);
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

/* Looks at every byte of `given` for every key, however early they differ. */
static bool same_secret(const char *given, const char *key)
{
	size_t n = strlen(given), m = strlen(key);
	unsigned char diff = n != m;

	for (size_t i = 0; i < n; i++)
		diff |= (unsigned char)(given[i] ^ key[i % m]);
	return diff == 0;
}

const char *settings_key(const struct settings *s, const char *secret)
{
	const char *name = NULL;

	for (size_t i = 0; i < s->n_keys; i++)
		if (same_secret(secret, s->keys[i].secret))
			name = s->keys[i].name;
	return name;
}
