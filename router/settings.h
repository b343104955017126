/* settings.h - the router's configuration: the table, and the values in the shape the
 * code wants.  Loaded whole, checked, then swapped; a request keeps the settings it began
 * with (settings_share/drop).  Not thread-safe. */
#ifndef HEARTH_ROUTER_SETTINGS_H
#define HEARTH_ROUTER_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/conf.h"
#include "lib/err.h"

enum key_role {
	ROLE_CLIENT,		/* asks models */
	ROLE_ADMIN,		/* and may use /admin: status, models, configuration, requests */
};

struct client_key {
	char *name;
	char *secret;
	enum key_role role;
};

struct upstream_conf {
	char *name, *url;
	char *key;			/* NULL: none */
	uint32_t connect_ms, first_ms, idle_ms;
	uint32_t able;			/* enum route_able */
	uint32_t max_context;
	bool probe;
};

struct chain_step {
	const struct upstream_conf *upstream;	/* NULL: workers of `model` */
	char *model;			/* the worker's, or the upstream's name for it */
};

/* What a request does about a local model that is not loaded. */
enum alias_load {
	LOAD_BACKGROUND,	/* goes on to the next target; waits only when there is none */
	LOAD_WAIT,		/* waits before it goes on */
	LOAD_NEVER,		/* as if it could not be loaded */
};

struct alias {
	char *name;
	enum alias_load load;
	struct chain_step *steps;
	size_t n_steps;
};

struct settings {
	int holders;
	struct conf *conf;
	char **listen, **bus;		/* NULL at the end */
	size_t n_listen, n_bus;
	struct client_key *keys;
	size_t n_keys, n_admin_keys;
	char *odd_roles;		/* lines whose third word is no role; NULL: none */
	bool trust_local;		/* /admin and /metrics without a key from this machine */
	char *curve_public, *curve_secret, **curve_allowed;
	size_t n_curve_allowed;
	struct upstream_conf *upstreams;
	size_t n_upstreams;
	struct alias *aliases;
	size_t n_aliases;
	uint32_t grace_ms, keepalive_ms, deadline_ms, answer_ms, accept_ms, first_ms, idle_ms,
		credit, load_wait_ms;
	uint32_t breaker_failures, breaker_ms;
	uint32_t drain_ms, settle_ms;
};

extern const struct conf_table settings_table;

/* path: NULL for the defaults; overrides: "section.key=value" texts from the command line. */
int settings_load(const char *path, const char *const *overrides, size_t n,
		  struct settings **ret, struct err *e);
struct settings *settings_share(struct settings *s);
struct settings *settings_drop(struct settings *s);	/* NULL ok; returns NULL */

const struct alias *settings_alias(const struct settings *s, const char *name);
/* The key that `secret` is, or NULL; time does not depend on how much fits. */
const struct client_key *settings_key(const struct settings *s, const char *secret);
/* "client", "admin" */
const char *key_role_name(enum key_role role);
/* Writes to the log what an owner should know about the file of keys: once when it is taken. */
void settings_warn_keys(const struct settings *s);

#endif
