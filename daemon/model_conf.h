/* model_conf.h - what hearthd is told about this box and its models: the rows of the table,
 * and the values in the shape the code wants.
 *
 * hearthd's table is made of several files' rows (lib/conf.h); MODEL_CONF_SECTIONS and
 * MODEL_CONF_KEYS are the ones of the life cycle.
 */
#ifndef HEARTH_DAEMON_MODEL_CONF_H
#define HEARTH_DAEMON_MODEL_CONF_H

#include "daemon/launcher.h"
#include "lib/conf.h"

#define MODEL_CONF_SECTIONS \
	{ "box", false, "This box, its router, and how its workers are run" }, \
	{ "model", true, "A model of this box, under the alias that requests name" }

#define MODEL_CONF_K(section, key, type, min, max, def, reload, help) \
	{ section, key, type, min, max, NULL, def, reload, help }
#define MODEL_CONF_DAY_S 86400
#define MODEL_CONF_KEYS \
	MODEL_CONF_K("box", "name", CONF_TEXT, 0, 63, NULL, false, \
	  "this box's name in the rack (default: the host's name)"), \
	MODEL_CONF_K("box", "router", CONF_TEXT, 1, 200, "ipc:///run/hearth/bus", false, \
	  "the router's endpoint: ipc:///path or tcp://host:port"), \
	MODEL_CONF_K("box", "curve_public", CONF_TEXT, 40, 40, NULL, false, \
	  "this box's public CURVE key, for a router off this host"), \
	MODEL_CONF_K("box", "curve_secret_file", CONF_TEXT, 1, 400, NULL, false, \
	  "file that holds its secret key, or credential:NAME (systemd.exec(5), LoadCredential)"), \
	MODEL_CONF_K("box", "curve_server", CONF_TEXT, 40, 40, NULL, false, \
	  "the router's public CURVE key"), \
	{ "box", "launcher", CONF_CHOICE, 0, 0, "auto|systemd|spawn", "auto", false, \
	  "workers as units hearth-worker@ALIAS.service, or as our own children; auto: units " \
	  "where systemd runs" }, \
	MODEL_CONF_K("box", "metrics", CONF_TEXT, 0, 100, NULL, false, \
	  "where Prometheus finds this box's metrics, as 127.0.0.1:9465 (default: nowhere)"), \
	MODEL_CONF_K("box", "metrics_key_file", CONF_TEXT, 1, 400, NULL, false, \
	  "file with the key that it must send, or credential:NAME; needed off loopback"), \
	MODEL_CONF_K("box", "run_dir", CONF_TEXT, 1, 80, "/run/hearthd", false, \
	  "where sockets and the state of running workers lie"), \
	MODEL_CONF_K("box", "worker", CONF_TEXT, 1, 400, NULL, false, \
	  "the worker's program, for spawn (default: hearth-worker beside hearthd)"), \
	{ "box", "stop_workers", CONF_CHOICE, 0, 0, "auto|yes|no", "auto", true, \
	  "whether workers end when hearthd is stopped; auto: those that are no units" }, \
	MODEL_CONF_K("box", "max_models", CONF_INT, 0, 256, "0", true, \
	  "models loaded at the same time; 0: as many as fit"), \
	MODEL_CONF_K("box", "keep_s", CONF_INT, 0, MODEL_CONF_DAY_S, "30", true, \
	  "a model stays this long before another may take its place, s"), \
	MODEL_CONF_K("box", "retire_s", CONF_INT, 0, MODEL_CONF_DAY_S, "120", true, \
	  "answers under way get this long when their model goes, s"), \
	MODEL_CONF_K("box", "stop_s", CONF_INT, 1, MODEL_CONF_DAY_S, "45", true, \
	  "a worker that was told to end is killed after, s"), \
	MODEL_CONF_K("box", "stall_s", CONF_INT, 1, MODEL_CONF_DAY_S, "120", true, \
	  "a load that does not advance has failed after, s"), \
	MODEL_CONF_K("box", "backoff_ms", CONF_INT, 10, 3600000, "1000", true, \
	  "pause after a first failure, doubling, ms"), \
	MODEL_CONF_K("box", "backoff_max_s", CONF_INT, 1, MODEL_CONF_DAY_S, "60", true, \
	  "longest pause, s"), \
	MODEL_CONF_K("box", "crash_limit", CONF_INT, 1, 1000, "5", true, \
	  "failures in a row that put a model into quarantine"), \
	MODEL_CONF_K("box", "healthy_s", CONF_INT, 1, MODEL_CONF_DAY_S, "60", true, \
	  "ready this long: earlier failures are forgotten, s"), \
	MODEL_CONF_K("model", "path", CONF_TEXT, 1, 1000, NULL, true, \
	  "the model's folder, or a hub id that is in the local cache"), \
	MODEL_CONF_K("model", "alias", CONF_TEXT, 1, 100, NULL, true, \
	  "the name requests use (default: the section's)"), \
	MODEL_CONF_K("model", "pin", CONF_BOOL, 0, 0, "no", true, \
	  "loaded at start, and never unloaded for another or for idleness"), \
	MODEL_CONF_K("model", "on_demand", CONF_BOOL, 0, 0, "yes", true, \
	  "a request loads it; no: only hearthctl load does"), \
	MODEL_CONF_K("model", "ttl_s", CONF_INT, 0, 31536000, "0", true, \
	  "unloaded when idle for this long, s; 0: stays"), \
	MODEL_CONF_K("model", "memory_mib", CONF_INT, 0, 100000000, "0", true, \
	  "memory it takes, MiB; 0: what its worker says it would"), \
	MODEL_CONF_K("model", "device", CONF_TEXT, 1, 32, "cpu", true, "cpu or cuda:N"), \
	{ "model", "quantize", CONF_CHOICE, 0, 0, "none|head|dense|head+dense", "none", true, \
	  "converted to FP8 while loading: lm_head, the dense projections (no experts), both" }, \
	{ "model", "kv", CONF_CHOICE, 0, 0, "bf16|fp8", "bf16", true, \
	  "format of keys and values; fp8 takes half the memory" }, \
	{ "model", "prefill_fp4", CONF_CHOICE, 0, 0, "off|up|all", "off", true, \
	  "prompts by NVFP4 matrices with activations in FP4 too (sm_12x): gate and up, or all" }, \
	MODEL_CONF_K("model", "context", CONF_INT, 0, 100000000, "0", true, \
	  "tokens of prompt and answer together; 0: what the model was made for"), \
	MODEL_CONF_K("model", "max_streams", CONF_INT, 1, 1024, "16", true, \
	  "answers that are made at the same time"), \
	MODEL_CONF_K("model", "queue", CONF_INT, 1, 100000, "256", true, \
	  "answers that may wait; more are refused"), \
	MODEL_CONF_K("model", "kv_mib", CONF_INT, 0, 100000000, "0", true, \
	  "memory for keys and values, MiB; 0: two full contexts"), \
	MODEL_CONF_K("model", "threads", CONF_INT, 0, 1024, "0", true, \
	  "threads of the CPU back end; 0: one a core"), \
	MODEL_CONF_K("model", "args", CONF_TEXT, 0, 1000, NULL, true, \
	  "more options of hearth-worker serve, a blank between")

enum { MODEL_MAX_ARGS = 64 };

struct model_conf {
	char *alias, *path, *args;
	char *device, *quantize, *kv_format, *prefill_fp4;
	bool pin, on_demand;
	uint32_t ttl_s, context, max_streams, queue, threads;
	uint64_t memory, kv;		/* bytes; 0: worked out */
	uint64_t budget;		/* what its worker says it would take; 0: not said (yet) */
};

struct box_conf {
	char *name, *router, *run_dir, *worker;
	char *memory_socket;	/* where workers present their budgets; NULL: where they would look */
	char *curve_public, *curve_secret_file, *curve_server;	/* all or none */
	char *metrics, *metrics_key_file;	/* NULL: nowhere; none */
	bool want_units, forbid_units, stop_workers_set, stop_workers;
	uint32_t stop_ms;
	struct launch_policy policy;
	struct model_conf *models;
	size_t n_models;
};

/* c stays the caller's and may go.  0; -EINVAL with the section and what is wrong; -ENOMEM. */
int box_conf_load(const struct conf *c, struct box_conf **ret, struct err *e);
struct box_conf *box_conf_free(struct box_conf *b);	/* NULL ok; returns NULL */
const struct model_conf *box_conf_model(const struct box_conf *b, const char *alias);
/* Whether the worker would be started with other words. */
bool model_conf_same_worker(const struct model_conf *a, const struct model_conf *b);
/* Bytes of the files in the model's folder; 0: there is no such folder (a hub id). */
uint64_t model_conf_bytes(const struct model_conf *m);
/* The worker's name on the bus, "BOX/ALIAS"; by it the router knows whose it is. */
void model_conf_worker_name(const struct box_conf *b, const char *alias, char ret[192]);
/* hearth-worker's words after its program name: "serve", PATH, ...  NULL at the end; free() the
 * array, its strings stand in the same memory.  NULL: out of memory or too many. */
char **model_conf_argv(const struct box_conf *b, const struct model_conf *m);

#endif
