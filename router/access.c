/* access.c - see access.h. */
#include "router/access.h"

#include <string.h>

#include "lib/events.h"
#include "lib/log.h"

/* *ret_given: there was something that should be a key. */
static const struct client_key *find_key(const struct settings *s, const struct http_call *call,
					 bool *ret_given)
{
	const char *auth = http_call_header(call, "authorization");
	const char *own = http_call_header(call, "x-api-key");
	const struct client_key *key = NULL;

	if (auth && !strncasecmp(auth, "bearer ", 7))
		key = settings_key(s, auth + 7 + strspn(auth + 7, " "));
	if (!key && own)
		key = settings_key(s, own);
	*ret_given = (auth && *auth) || (own && *own);
	return key;
}

/* A proxy on this machine that tells whom it speaks for is not a caller of this machine. */
static bool is_passed_on(const struct http_call *call)
{
	static const char *const names[] = { "forwarded", "x-forwarded-for", "x-real-ip", "via" };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (http_call_header(call, names[i]))
			return true;
	return false;
}

static bool is_trusted(const struct settings *s, const struct http_call *call)
{
	if (!http_call_is_local(call))
		return false;
	return !s->n_keys || (s->trust_local && !is_passed_on(call));
}

static void refuse_key(struct http_call *call, enum access_need need, const char *path)
{
	struct oa_error e;

	log_event(LOG_WARN, EVENT_KEY_REFUSED, LOG_FIELDS({ "PEER", http_call_peer(call) }),
		  "no valid key from %s for %s", http_call_peer(call), path);
	oa_error_set(&e, 401, "invalid_api_key", NULL, "a valid API key%s is needed",
		     need == ACCESS_ADMIN ? " of the role 'admin'" : "");
	api_refuse(call, &e, "WWW-Authenticate: Bearer\r\n");
}

static void refuse_role(struct http_call *call, const struct client_key *key, const char *path)
{
	struct oa_error e;

	log_event(LOG_WARN, EVENT_ROLE_REFUSED,
		  LOG_FIELDS({ "PEER", http_call_peer(call) }, { "KEY_ID", key->name }),
		  "key '%s' from %s is a client's, and %s needs one of the role admin", key->name,
		  http_call_peer(call), path);
	oa_error_set(&e, 403, "insufficient_permissions", NULL,
		     "this needs a key of the role 'admin'; '%.100s' has the role 'client'",
		     key->name);
	api_refuse(call, &e, NULL);
}

/* A page that a browser on this machine shows would come from it, and without a key. */
static void refuse_page(struct http_call *call)
{
	struct oa_error e;

	oa_error_set(&e, 403, NULL, NULL, "not for pages in a browser");
	api_refuse(call, &e, NULL);
}

bool access_check(const struct router *rt, struct http_call *call, enum access_need need,
		  const char *path, const char **ret_name)
{
	const struct settings *s = rt->settings;
	bool given, ok;
	const struct client_key *key = find_key(s, call, &given);

	*ret_name = key ? key->name : NULL;
	if (need == ACCESS_ADMIN && http_call_header(call, "origin")) {
		refuse_page(call);
		return false;
	}
	if (need == ACCESS_ADMIN && key && key->role != ROLE_ADMIN) {
		refuse_role(call, key, path);
		return false;
	}
	ok = key || need == ACCESS_OPEN;
	if (need == ACCESS_KEY)
		ok |= !s->n_keys;
	else if (!s->n_keys || !given)	/* a wrong key is never as good as none */
		ok |= is_trusted(s, call);
	if (!ok)
		refuse_key(call, need, path);
	return ok;
}
