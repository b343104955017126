/* serve_args.c - see serve_args.h. */
#include "worker/serve_args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/bytes.h"
#include "proto/wire.h"

enum kind { TEXT, NUMBER, SIZE, SWITCH };

static const struct option_row {
	const char *name, *value;	/* value NULL: a switch */
	enum kind kind;
	size_t offset;			/* in struct serve_args */
	uint64_t min, max;		/* NUMBER */
	const char *help;
} options[] = {
#define AT(field) offsetof(struct serve_args, field)
	{ "model", "FOLDER", TEXT, AT(load.model_dir), 0, 0,
	  "the model: a folder, or a hub id that is in the local cache" },
	{ "connect", "ENDPOINT", TEXT, AT(endpoint), 0, 0,
	  "the router's endpoint for workers: ipc:///path or tcp://host:port" },
	{ "alias", "NAME", TEXT, AT(alias), 0, 0, "the model's name in the rack" },
	{ "name", "NAME", TEXT, AT(name), 0, 0,
	  "this worker's name, unique in the rack (default: host, alias and process)" },
	{ "device", "DEVICE", TEXT, AT(load.device), 0, 0, "cpu or cuda:N (default: cpu)" },
	{ "read", "HOW", TEXT, AT(load.read), 0, 0,
	  "weights from disk by io_uring, threads or mapped (page cache); default: auto, not mapped" },
	{ "quantize", "WHAT", TEXT, AT(load.quantize), 0, 0,
	  "becomes FP8 while loading: none, head, dense (no experts), head+dense; default: none" },
	{ "kv", "FORMAT", TEXT, AT(load.kv), 0, 0,
	  "keys and values in bf16, or in fp8 at half the memory; default: bf16" },
	{ "context", "TOKENS", NUMBER, AT(load.context), 64, UINT32_MAX / 2,
	  "prompt and answer together (default: what the model was made for)" },
	{ "slots", "N", NUMBER, AT(load.slots), 1, 1024,
	  "sequences that run at the same time (default: 16)" },
	{ "kv-bytes", "SIZE", SIZE, AT(load.kv_bytes), 0, 0,
	  "memory for keys and values (default: two full contexts)" },
	{ "queue", "N", NUMBER, AT(load.queue), 1, 100000,
	  "answers that may wait; more are refused (default: 256)" },
	{ "rows", "N", NUMBER, AT(load.rows), 65, 65536,
	  "rows of one step: slots + 64 at least (default: slots, and what the device likes: 8192 on a GPU, 16384 on Hopper, 512 on a CPU)" },
	{ "chunk", "N", NUMBER, AT(load.chunk), 64, 65536,
	  "prompt tokens in a step that also decodes, a multiple of 64 (default: as many as --pause-ms permits)" },
	{ "pause-ms", "MS", NUMBER, AT(load.pause_ms), 1, 60000,
	  "time of a step that decodes and takes prompts, so also between two tokens of an answer; or three times what answers alone take (default: 45)" },
	{ "prefill-fp4", "WHAT", TEXT, AT(load.prefill_fp4), 0, 0,
	  "prompts by NVFP4 matrices with activations in FP4 too (sm_12x): off, up (gate and up), all; default: off" },
	{ "threads", "N", NUMBER, AT(load.threads), 1, 1024,
	  "of the CPU back end (default: one a core)" },
	{ "drafts", NULL, SWITCH, AT(load.drafts), 0, 0,
	  "let the MTP head guess and count how often it is right (speeds nothing up yet)" },
	{ "drain-ms", "MS", NUMBER, AT(drain_ms), 0, 3600000,
	  "time for running answers after SIGTERM (default: 30000)" },
	{ "step-limit-s", "SECONDS", NUMBER, AT(step_limit_s), 1, 86400,
	  "a step that takes longer is a device that hangs: exit 70; a six-hundredth more for each of 1024 rows (default: 60)" },
	{ "no-numbers", "N", NUMBER, AT(no_numbers), 0, 1000,
	  "so many samples in a row, within a minute, from logits that are no numbers: exit 70; 0: never (default: 3)" },
	{ "hearthd", "SOCKET", TEXT, AT(hearthd), 0, 0,
	  "ask there for memory before loading, or none (default: /run/hearthd/memory, if it is there)" },
	{ "curve-public", "KEY", TEXT, AT(curve_public), 0, 0,
	  "this worker's public key (Z85), for endpoints off this host" },
	{ "curve-secret-file", "FILE", TEXT, AT(curve_secret_file), 0, 0,
	  "file with its secret key, or credential:NAME (systemd.exec(5), LoadCredential)" },
	{ "curve-server", "KEY", TEXT, AT(curve_server), 0, 0, "the router's public key" },
	/* from here on: of the command line only */
	{ "config", "FILE", TEXT, AT(config), 0, 0,
	  "read [worker] of FILE and FILE.d/*.conf; again for more, options win over files" },
	{ "print-budget", NULL, SWITCH, AT(print_budget), 0, 0,
	  "say what these options would take, in bytes, and load nothing (on a GPU: without the workspace)" },
	{ "print-config-sample", NULL, SWITCH, AT(print_sample), 0, 0, "a sample of that file" },
	{ "dump-keys", NULL, SWITCH, AT(dump_keys), 0, 0,
	  "every key, a line each, a tab between its parts: hearth.conf(5) is made of it" },
	{ "dump-options", NULL, SWITCH, AT(dump), 0, 0,
	  "this list, a line each: name, argument, text" },
	{ "help", NULL, SWITCH, AT(help), 0, 0, "this text" },
};

enum { N_OPTIONS = sizeof(options) / sizeof(*options), N_KEYS = N_OPTIONS - 6 };

/* ---- the configuration file: the same table ------------------------------------------- */

static const struct conf_section sections[] = {
	{ "worker", false, "One model on one device" },
	{ NULL, false, NULL },
};

static char key_names[N_KEYS][32];
static struct conf_key keys[N_KEYS + 1];

const struct conf_table *serve_conf_table(void)
{
	static const struct conf_table table = { sections, keys };

	for (int i = 0; i < N_KEYS && !keys[N_KEYS - 1].key; i++) {
		const struct option_row *o = &options[i];
		char *p = key_names[i];

		for (const char *q = o->name; *q; q++)
			*p++ = *q == '-' ? '_' : *q;
		keys[i] = (struct conf_key){
			.section = "worker", .key = key_names[i], .help = o->help,
			.type = o->kind == SWITCH ? CONF_BOOL :
				o->kind == NUMBER ? CONF_INT : CONF_TEXT,
			.min = o->kind == NUMBER ? (int64_t)o->min : 0,
			.max = o->kind == NUMBER ? (int64_t)o->max : 0,
		};
	}
	return &table;
}

void serve_args_help(FILE *f)
{
	fprintf(f, "usage: hearth-worker serve [MODEL_DIR] [--config FILE]... [options]\n"
		   "A model, --connect and --alias are needed, here or in a file.\n");
	for (int i = 0; i < N_OPTIONS; i++)
		fprintf(f, "  --%-19s %-9s %s\n", options[i].name,
			options[i].value ? options[i].value : "", options[i].help);
}

void serve_args_dump(FILE *f)
{
	for (int i = 0; i < N_OPTIONS; i++)
		fprintf(f, "--%s\t%s\t%s\n", options[i].name,
			options[i].value ? options[i].value : "", options[i].help);
}

static int set_number(const struct option_row *o, const char *value, uint32_t *ret, struct err *e)
{
	char *end;
	unsigned long long x = strtoull(value, &end, 10);

	if (end == value || *end || *value == '-' || x < o->min || x > o->max)
		return err_set(e, -EINVAL, "--%s: '%s' is not a number from %llu to %llu", o->name,
			       value, (unsigned long long)o->min, (unsigned long long)o->max);
	*ret = (uint32_t)x;
	return 0;
}

static int set(const struct option_row *o, const char *value, struct serve_args *a, struct err *e)
{
	char *at = (char *)a + o->offset;

	switch (o->kind) {
	case TEXT:
		memcpy(at, &value, sizeof(value));
		return 0;
	case NUMBER:
		return set_number(o, value, (uint32_t *)(void *)at, e);
	case SIZE:
		if (bytes_parse(value, (uint64_t *)(void *)at) < 0)
			return err_set(e, -EINVAL, "--%s: '%s' is not a size (as 512M or 11.5G)",
				       o->name, value);
		return 0;
	case SWITCH:
		*(bool *)at = true;
		return 0;
	}
	return 0;
}

static const struct option_row *find_option(const char *arg, size_t n)
{
	for (int i = 0; i < N_OPTIONS; i++)
		if (strlen(options[i].name) == n && !strncmp(options[i].name, arg, n))
			return &options[i];
	return NULL;
}

/* One option at argv[i], as "--name value" or "--name=value"; how many words it took. */
static int take_option(int argc, char **argv, int i, struct serve_args *a, struct err *e)
{
	const char *arg = argv[i] + 2, *equals = strchr(arg, '=');
	size_t n = equals ? (size_t)(equals - arg) : strlen(arg);
	const struct option_row *o = find_option(arg, n);
	const char *value = equals ? equals + 1 : NULL;
	int words = 1, r;

	if (!o)
		return err_set(e, -EINVAL, "unknown option --%.*s", (int)n, arg);
	if (o->kind == SWITCH && value)
		return err_set(e, -EINVAL, "--%s takes no value", o->name);
	if (o->kind != SWITCH && !value) {
		if (i + 1 >= argc)
			return err_set(e, -EINVAL, "--%s needs %s", o->name, o->value);
		value = argv[i + 1];
		words = 2;
	}
	r = set(o, value, a, e);
	return r < 0 ? r : words;
}

static int check(const struct serve_args *a, struct err *e)
{
	enum read_how how;
	enum quantize what;
	enum fp4_prefill fp4;
	enum kv_format kv;

	if (a->help || a->print_sample || a->dump_keys || a->dump)
		return 0;
	if (!a->load.model_dir)
		return err_set(e, -EINVAL, "the model's folder is missing");
	if (a->load.read && read_how_parse(a->load.read, &how) < 0)
		return err_set(e, -EINVAL, "--read: '%s' is not auto, io_uring, threads or mapped",
			       a->load.read);
	if (a->load.quantize && quantize_parse(a->load.quantize, &what) < 0)
		return err_set(e, -EINVAL,
			       "--quantize: '%s' is not none, head, dense or head+dense",
			       a->load.quantize);
	if (a->load.kv && kv_format_parse(a->load.kv, &kv) < 0)
		return err_set(e, -EINVAL, "--kv: '%s' is not bf16 or fp8", a->load.kv);
	if (a->load.prefill_fp4 && fp4_prefill_parse(a->load.prefill_fp4, &fp4) < 0)
		return err_set(e, -EINVAL, "--prefill-fp4: '%s' is not off, up or all",
			       a->load.prefill_fp4);
	if (!a->endpoint || !a->alias)
		return err_set(e, -EINVAL, "--%s is missing", a->endpoint ? "alias" : "connect");
	if (!wire_alias_ok(a->alias))
		return err_set(e, -EINVAL, "--alias: '%s' cannot be one: " WIRE_ALIAS_RULE,
			       a->alias);
	if (!a->curve_public != !a->curve_secret_file || !a->curve_public != !a->curve_server)
		return err_set(e, -EINVAL, "--curve-public, --curve-secret-file and "
					   "--curve-server go together");
	return 0;
}

static int set_key(int i, const struct conf *c, struct serve_args *a, struct err *e)
{
	const struct option_row *o = &options[i];
	const char *value = conf_text(c, "worker", NULL, keys[i].key);

	if (!value || (!*value && o->kind == TEXT))
		return 0;
	if (o->kind != SWITCH)
		return set(o, value, a, e);
	*(bool *)((char *)a + o->offset) = conf_bool(c, "worker", NULL, keys[i].key);
	return 0;
}

/* Its texts are borrowed: `a` keeps the file. */
static int read_config(const char *path, struct serve_args *a, struct err *e)
{
	struct conf *c;
	int r;

	if (a->n_conf == SERVE_MAX_CONF)
		return err_set(e, -EINVAL, "--config: more than %d", SERVE_MAX_CONF);
	r = conf_load(serve_conf_table(), path, &c, e);
	if (r < 0)
		return r;
	a->conf[a->n_conf++] = c;
	for (int i = 0; i < N_KEYS && r == 0; i++)
		r = set_key(i, c, a, e);
	return r < 0 ? err_prefix(e, r, "%s", path) : 0;
}

static int take_words(int argc, char **argv, struct serve_args *a, struct err *e)
{
	int r;

	for (int i = 1; i < argc;) {
		if (!strncmp(argv[i], "--", 2) && argv[i][2]) {
			r = take_option(argc, argv, i, a, e);
			if (r < 0)
				return r;
			i += r;
		} else if (argv[i][0] == '-' && strcmp(argv[i], "-h")) {
			return err_set(e, -EINVAL, "unknown option %s", argv[i]);
		} else if (argv[i][0] == '-') {
			a->help = true;
			i++;
		} else if (a->folder) {
			return err_set(e, -EINVAL, "one model folder, not '%s' too", argv[i]);
		} else {
			a->folder = argv[i++];
		}
	}
	return 0;
}

/* The files in their order, whatever stands between them. */
static int read_configs(int argc, char **argv, struct serve_args *a, struct err *e)
{
	static const char name[] = "--config";
	const size_t n = sizeof(name) - 1;
	int r = 0;

	for (int i = 1; i < argc && r == 0; i++) {
		if (!strncmp(argv[i], name, n) && argv[i][n] == '=')
			r = read_config(argv[i] + n + 1, a, e);
		else if (!strcmp(argv[i], name) && i + 1 < argc)
			r = read_config(argv[i + 1], a, e);
	}
	return r;
}

void serve_args_done(struct serve_args *a)
{
	while (a->n_conf)
		conf_free(a->conf[--a->n_conf]);
}

int serve_args_parse(int argc, char **argv, struct serve_args *ret, struct err *e)
{
	struct serve_args a = { .drain_ms = 30000, .step_limit_s = 60, .no_numbers = 3, .load = LOAD_DEFAULTS };
	struct serve_args words = a;
	int r = take_words(argc, argv, &words, e);	/* a typing error first, then files */

	if (r == 0)
		r = read_configs(argc, argv, &a, e);
	if (r == 0)
		r = take_words(argc, argv, &a, e);
	if (r == 0 && a.folder)
		a.load.model_dir = a.folder;
	if (r == 0)
		r = check(&a, e);
	if (r == 0)
		*ret = a;
	else
		serve_args_done(&a);
	return r;
}
