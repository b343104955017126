/* settings_keys.c - the file of API keys: lines NAME KEY, or NAME KEY ROLE.
 *
 * Before there were roles, what stood behind KEY was not looked at, and such files are still read:
 * a word there that is no role makes no admin, and is warned of by its line, not by itself (it may
 * be a secret).
 */
#include <stdlib.h>
#include <string.h>

#include "lib/events.h"
#include "lib/log.h"
#include "lib/own.h"
#include "router/settings_int.h"

enum { MIN_KEY = 8, MAX_ODD = 400 };

static const char *const role_names[] = { [ROLE_CLIENT] = "client", [ROLE_ADMIN] = "admin" };

const char *key_role_name(enum key_role role)
{
	return role_names[role];
}

static int add_key(struct settings *s, const char *name, const char *secret, enum key_role role)
{
	struct client_key *more = realloc(s->keys, (s->n_keys + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	s->keys = more;
	more += s->n_keys++;
	*more = (struct client_key){ strdup(name), strdup(secret), role };
	s->n_admin_keys += role == ROLE_ADMIN;
	return more->name && more->secret ? 0 : -ENOMEM;
}

/* Without a word: client. */
static int read_role(const char *word, enum key_role *ret)
{
	*ret = ROLE_CLIENT;
	for (size_t i = 0; word && i < sizeof(role_names) / sizeof(*role_names); i++) {
		if (!strcmp(word, role_names[i])) {
			*ret = (enum key_role)i;
			return 0;
		}
	}
	return word ? -EINVAL : 0;
}

static int add_line(struct settings *s, char *line, const char *at, struct buf *odd, struct err *e)
{
	char *inner = NULL, *name, *secret;
	const struct client_key *same;
	enum key_role role;

	line[strcspn(line, "#")] = '\0';
	name = strtok_r(line, " \t\r", &inner);
	if (!name)
		return 0;
	secret = strtok_r(NULL, " \t\r", &inner);
	if (!secret || strlen(secret) < MIN_KEY)
		return err_set(e, -EINVAL,
			       "%s: write NAME KEY, the key with at least %d characters", at,
			       MIN_KEY);
	if (read_role(strtok_r(NULL, " \t\r", &inner), &role) < 0 && odd->n < MAX_ODD)
		buf_printf(odd, "%s%s (%.64s)", odd->n ? ", " : "", at, name);
	same = settings_key(s, secret);
	if (same && same->role != role)
		return err_set(e, -EINVAL, "%s: the key of '%.64s' again, with another role", at,
			       same->name);
	return add_key(s, name, secret, role) < 0 ? no_memory(e) : 0;
}

int settings_load_keys(struct settings *s, const char *path, struct err *e)
{
	CLEANUP(settings_free_secretp) char *text = NULL;
	CLEANUP(buf_donep) struct buf odd = BUF_INIT;
	CLEANUP(buf_donep) struct buf at = BUF_INIT;
	char *rest, *line;
	int line_no = 0, r = settings_read_text(path, "http.keys_file", &text, e);

	rest = text;
	while (r == 0 && (line = settings_next_line(&rest, &line_no))) {
		buf_clear(&at);
		buf_printf(&at, "%s:%d", path, line_no);
		r = buf_ok(&at) ? add_line(s, line, at.p, &odd, e) : no_memory(e);
	}
	if (r == 0 && !s->n_keys)
		r = err_set(e, -EINVAL, "%s: no key in it", path);
	if (r == 0 && odd.n) {
		s->odd_roles = buf_take(&odd, NULL);
		r = s->odd_roles ? 0 : no_memory(e);
	}
	return r;
}

void settings_warn_keys(const struct settings *s)
{
	const char *file = conf_text(s->conf, "http", NULL, "keys_file");

	if (s->odd_roles)
		log_event(LOG_WARN, EVENT_ODD_ROLE, LOG_FIELDS({ "LINES", s->odd_roles }),
			  "%s: behind the key stands neither client nor admin: taken as client's",
			  s->odd_roles);
	if (!s->n_keys || s->n_admin_keys)
		return;
	log_event(LOG_WARN, EVENT_NO_ADMIN_KEY, LOG_FIELDS({ "FILE", file }),
		  "no key of %s has the role admin: none of them opens /admin (hearthctl from "
		  "another machine), and %s. To give a key the role, write admin behind it (NAME "
		  "KEY admin); to make one, hearthctl keys add --role admin NAME; then reload",
		  file, s->trust_local ? "only callers of this machine who send none can use it" :
					 "with http.trust_local = no nobody can use it");
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

const struct client_key *settings_key(const struct settings *s, const char *secret)
{
	const struct client_key *key = NULL;

	for (size_t i = 0; i < s->n_keys; i++)
		if (same_secret(secret, s->keys[i].secret))
			key = &s->keys[i];
	return key;
}
