/* serve_args.c - see serve_args.h. */
#include "worker/serve_args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum kind { TEXT, NUMBER, SIZE, SWITCH };

static const struct option_row {
	const char *name, *value;	/* value NULL: a switch */
	enum kind kind;
	size_t offset;			/* in struct serve_args */
	uint64_t min, max;		/* NUMBER */
	const char *help;
} options[] = {
#define AT(field) offsetof(struct serve_args, field)
	{ "connect", "ENDPOINT", TEXT, AT(endpoint), 0, 0,
	  "the router's endpoint for workers: ipc:///path or tcp://host:port" },
	{ "alias", "NAME", TEXT, AT(alias), 0, 0, "the model's name in the rack" },
	{ "name", "NAME", TEXT, AT(name), 0, 0,
	  "this worker's name, unique in the rack (default: host, alias and process)" },
	{ "device", "DEVICE", TEXT, AT(load.device), 0, 0, "cpu or cuda:N (default: cpu)" },
	{ "context", "TOKENS", NUMBER, AT(load.context), 64, UINT32_MAX / 2,
	  "prompt and answer together (default: what the model was made for)" },
	{ "slots", "N", NUMBER, AT(load.slots), 1, 1024,
	  "sequences that run at the same time (default: 16)" },
	{ "kv-bytes", "SIZE", SIZE, AT(load.kv_bytes), 0, 0,
	  "memory for keys and values (default: two full contexts)" },
	{ "queue", "N", NUMBER, AT(load.queue), 1, 100000,
	  "answers that may wait; more are refused (default: 256)" },
	{ "rows", "N", NUMBER, AT(load.rows), 65, 65536,
	  "rows of one step: slots + 64 at least (default: 256 + slots)" },
	{ "chunk", "N", NUMBER, AT(load.chunk), 64, 65536,
	  "prompt tokens in a step that also decodes, a multiple of 64 (default: 128)" },
	{ "threads", "N", NUMBER, AT(load.threads), 1, 1024,
	  "of the CPU back end (default: one a core)" },
	{ "drafts", NULL, SWITCH, AT(load.drafts), 0, 0,
	  "let the MTP head guess and count how often it is right (speeds nothing up yet)" },
	{ "drain-ms", "MS", NUMBER, AT(drain_ms), 0, 3600000,
	  "time for running answers after SIGTERM (default: 30000)" },
	{ "curve-public", "KEY", TEXT, AT(curve_public), 0, 0,
	  "this worker's public key (Z85), for endpoints off this host" },
	{ "curve-secret-file", "FILE", TEXT, AT(curve_secret_file), 0, 0,
	  "file with its secret key" },
	{ "curve-server", "KEY", TEXT, AT(curve_server), 0, 0, "the router's public key" },
	{ "help", NULL, SWITCH, AT(help), 0, 0, "this text" },
};

enum { N_OPTIONS = sizeof(options) / sizeof(*options) };

void serve_args_help(FILE *f)
{
	fprintf(f, "usage: hearth-worker serve MODEL_DIR --connect ENDPOINT --alias NAME "
		   "[options]\n");
	for (int i = 0; i < N_OPTIONS; i++)
		fprintf(f, "  --%-17s %-9s %s\n", options[i].name,
			options[i].value ? options[i].value : "", options[i].help);
}

int size_parse(const char *text, uint64_t *ret)
{
	static const char units[] = "KMGT";
	char *end;
	double x = strtod(text, &end);
	const char *unit = *end ? strchr(units, *end) : NULL;

	if (end == text || !(x >= 0))
		return -EINVAL;
	if (unit) {
		x *= (double)(UINT64_C(1) << (10 * (unit - units + 1)));
		end++;
	}
	if (*end || x > 1e18)
		return -EINVAL;
	*ret = (uint64_t)x;
	return 0;
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
		if (size_parse(value, (uint64_t *)(void *)at) < 0)
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
	if (a->help)
		return 0;
	if (!a->load.model_dir)
		return err_set(e, -EINVAL, "the model's folder is missing");
	if (!a->endpoint || !a->alias)
		return err_set(e, -EINVAL, "--%s is missing", a->endpoint ? "alias" : "connect");
	if (!a->curve_public != !a->curve_secret_file || !a->curve_public != !a->curve_server)
		return err_set(e, -EINVAL, "--curve-public, --curve-secret-file and "
					   "--curve-server go together");
	return 0;
}

int serve_args_parse(int argc, char **argv, struct serve_args *ret, struct err *e)
{
	struct serve_args a = { .drain_ms = 30000, .load = LOAD_DEFAULTS };
	int r;

	for (int i = 1; i < argc;) {
		if (!strncmp(argv[i], "--", 2) && argv[i][2]) {
			r = take_option(argc, argv, i, &a, e);
			if (r < 0)
				return r;
			i += r;
		} else if (argv[i][0] == '-' && strcmp(argv[i], "-h")) {
			return err_set(e, -EINVAL, "unknown option %s", argv[i]);
		} else if (argv[i][0] == '-') {
			a.help = true;
			i++;
		} else if (a.load.model_dir) {
			return err_set(e, -EINVAL, "one model folder, not '%s' too", argv[i]);
		} else {
			a.load.model_dir = argv[i++];
		}
	}
	r = check(&a, e);
	if (r == 0)
		*ret = a;
	return r;
}
