/* ctl.h - what the commands of hearthctl share. */
#ifndef HEARTH_CTL_CTL_H
#define HEARTH_CTL_CTL_H

#include <stdbool.h>

#include "lib/buf.h"
#include "lib/err.h"
#include "lib/json.h"
#include "lib/opts.h"

/* What hearthctl ends with; a command answers one of these, or a negative errno, which becomes
 * USAGE (-EINVAL), NOTHING (-ESRCH), NOT_ALLOWED (-EACCES, -EPERM) or UNAVAILABLE (others). */
enum {
	EXIT_FINDING = 1,	/* doctor: something must be done; config diff: there is a change */
	EXIT_USAGE = 64,
	EXIT_NOTHING = 66,	/* nothing is known of what was asked for */
	EXIT_UNAVAILABLE = 69,	/* the router or a box cannot be reached, or refused */
	EXIT_NOT_ALLOWED = 77,
	EXIT_CONFIG = 78,	/* the configuration is wrong */
};

enum { CTL_MAX_FILES = 16 };

enum ctl_option { /* those without a letter */
		  CTL_HEARTHD = OPTS_LONG_ONLY,
		  CTL_JSON,
		  CTL_DUMP,
		  CTL_COMPLETION,
		  CTL_KEYS_FILE,
		  CTL_ROLE,
		  CTL_BUS,
		  CTL_ETC,
		  CTL_LOG,
		  CTL_ROOT,
		  CTL_ON,
		  CTL_ONCE,
		  CTL_INTERVAL,
		  CTL_NO_RELOAD,
};

struct ctl {
	const char *url;		/* http://127.0.0.1:8080 */
	char *key;			/* NULL: none */
	const char *hearthd;		/* its socket; NULL: the usual one */
	const char *model;		/* NULL: the first that the router has */
	const char *box;		/* NULL: the only one that has the alias */
	const char *keys_file;		/* NULL: as the router says */
	const char *role;		/* of a key that is made; NULL: client */
	const char *bus;		/* pair: where boxes reach the router */
	const char *root; /* doctor: stands before /proc, /sys and /dev; NULL: this machine */
	const char *etc;		/* folder of the configuration */
	const char *files[CTL_MAX_FILES];	/* logs: plain files and journal folders */
	size_t n_files;
	const char *hosts[CTL_MAX_FILES];	/* logs: asked over ssh too */
	size_t n_hosts;
	const char *completion;		/* asked for instead of a command */
	uint32_t limit_ms;		/* of a request; 0: none */
	uint32_t interval_ms;		/* top */
	bool json, color, wait, once, no_reload;
};

/* One row a command: dispatch, --help, completion and the manual page come from here. */
struct ctl_command {
	const char *name;		/* a word, or noun and verb: "keys add" */
	const char *arg;		/* as a person writes it: "ALIAS", "[TEXT]"; NULL: none */
	int min_args, max_args;
	int (*run)(const struct ctl *c, char **argv, struct err *e);	/* NULL at the end */
	const char *text;
};

extern const struct ctl_command ctl_commands[];		/* ends with name NULL */
extern const struct opts_row ctl_options[];

/* commands.c.  The command that the words begin with; *ret_used words are its name.  NULL: none. */
const struct ctl_command *ctl_find(int argc, char **argv, int *ret_used);
void ctl_put_help(struct buf *out);
void ctl_put_dump(struct buf *out);

/* fail.c.  What main() ends with for what a command answered. */
int ctl_exit_status(int r);
/* Says on stderr why a command failed (e, or what r < 0 means), with --json on stdout too, as
 * member `error` of o (NULL: of an object that has nothing else).  Answers the exit status. */
int ctl_fail(const struct ctl *c, json_t *o, int r, const struct err *e);

/* completion.c.  A shell's completion as text; -EINVAL: not a shell it knows. */
int ctl_put_completion(const char *shell, struct buf *out);
/* Names for it: of models ("alias") or boxes ("box"), a line each, within 200 ms or not at all. */
int ctl_put_names(const struct ctl *c, const char *what, struct buf *out);

/* http.c.  GET (body NULL) or POST.  Bytes of a 200 go to `take` as they come (not 0 from it ends
 * the transfer), or into out when take is NULL.  0; -EREMOTEIO: another status, e says the server's
 * own message (-ENXIO: 404; -EACCES: 401, 403; -EBADMSG: 422, what the router found wrong);
 * -ECONNREFUSED and the like: e says why. */
int ctl_request(const struct ctl *c, const char *path, const struct buf *body, struct buf *out,
		int (*take)(void *arg, const char *p, size_t n), void *arg, struct err *e);
/* The same with its answer as JSON, whose strings are fit for a terminal; *text, if not NULL, keeps
 * the bytes as they were. */
int ctl_ask(const struct ctl *c, const char *path, const struct buf *body, struct buf *text,
	    json_t **ret, struct err *e);

/* Whether --url is this machine: files that the router names are then files here. */
bool ctl_is_here(const struct ctl *c);

/* The commands. */
int ctl_status(const struct ctl *c, char **argv, struct err *e);
int ctl_top(const struct ctl *c, char **argv, struct err *e);
/* What is wrong here, and what to do: EXIT_FINDING when there is something to do. */
int ctl_doctor(const struct ctl *c, char **argv, struct err *e);
int ctl_memory(const struct ctl *c, char **argv, struct err *e);
/* One question, or without one a conversation from stdin. */
int ctl_chat(const struct ctl *c, char **argv, struct err *e);
int ctl_load(const struct ctl *c, char **argv, struct err *e);
int ctl_unload(const struct ctl *c, char **argv, struct err *e);
int ctl_drain(const struct ctl *c, char **argv, struct err *e);
int ctl_undrain(const struct ctl *c, char **argv, struct err *e);
int ctl_config_check(const struct ctl *c, char **argv, struct err *e);
int ctl_config_show(const struct ctl *c, char **argv, struct err *e);
int ctl_config_diff(const struct ctl *c, char **argv, struct err *e);
int ctl_config_reload(const struct ctl *c, char **argv, struct err *e);
/* What became of a request; without an id, the latest. */
int ctl_explain(const struct ctl *c, char **argv, struct err *e);
/* What programs wrote about a request, here and on other boxes. */
int ctl_logs(const struct ctl *c, char **argv, struct err *e);
int ctl_keys_list(const struct ctl *c, char **argv, struct err *e);
int ctl_keys_add(const struct ctl *c, char **argv, struct err *e);
int ctl_keys_remove(const struct ctl *c, char **argv, struct err *e);
int ctl_pair_invite(const struct ctl *c, char **argv, struct err *e);
int ctl_pair_join(const struct ctl *c, char **argv, struct err *e);
int ctl_pair_list(const struct ctl *c, char **argv, struct err *e);
int ctl_pair_remove(const struct ctl *c, char **argv, struct err *e);

#endif
