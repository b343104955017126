/* life.h - the life cycle of this box's workers as a whole: launcher, runner and uplink joined.
 *
 * The owner of the process (main.c) opens it on its event base and answers whether memory can
 * be had.  Everything else (who starts, who goes, what the router hears) happens in here.
 */
#ifndef HEARTH_DAEMON_LIFE_H
#define HEARTH_DAEMON_LIFE_H

#include "daemon/launcher.h"
#include "daemon/model_conf.h"

struct event_base;
struct life;

struct life_hooks {
	/* Is there memory for this alias?  Answer with life_room(), now or later, once. */
	void (*ask)(void *arg, struct life *l, const char *alias, uint64_t bytes);
	/* One line for `systemctl status`, when it changed.  NULL ok. */
	void (*status)(void *arg, const char *line);
	void *arg;
};

/* Takes the configuration over on success. */
int life_open(struct event_base *base, struct box_conf *conf, const struct life_hooks *h,
	      struct life **ret, struct err *e);
/* Whether life_open() could read the file of secrets that conf names: 0, or what it would say. */
int life_check_secret(const struct box_conf *conf, struct err *e);
/* Workers that are to outlive us go on. */
struct life *life_close(struct life *l);

void life_room(struct life *l, const char *alias, bool fits, uint64_t short_by, const char *why);
/* Memory runs out: this worker (NULL: the youngest) goes at once.  False: it has no process. */
bool life_shed(struct life *l, const char *alias, const char *why);
/* Another configuration; loaded models whose lines did not change are not disturbed, and one
 * whose lines did goes on with the old ones until it is loaded anew.  Takes conf over. */
void life_reload(struct life *l, struct box_conf *conf);
/* Begins to stop; done() once no worker is left that has to end with us (at once if none). */
void life_stop(struct life *l, void (*done)(void *arg), void *arg);

struct expo;
void life_put_metrics(const struct life *l, struct expo *x);
bool life_router_up(const struct life *l);
const struct launcher *life_launcher(const struct life *l);
const struct box_conf *life_conf(const struct life *l);
int life_pid(const struct life *l, const char *alias);	/* 0: none */

#endif
