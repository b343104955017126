/* quant_config.c - see quant_config.h. */
#include "worker/weights/quant_config.h"

#include <fnmatch.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "lib/own.h"
#include "worker/weights/tensor_set.h"

#define MAX_CONFIG (16u << 20)
#define MAX_RULES 100000
#define MAX_PATTERN 4096

enum says { SAYS_PLAIN, SAYS_FP8, SAYS_NVFP4, SAYS_OTHER };

static const char *const says_names[] = { "not quantised", "FP8", "NVFP4", "another format" };

enum rule_kind {
	RULE_NAME,	/* this module and all below it */
	RULE_GLOB,	/* ModelOpt: "model.visual*" */
	RULE_REGEX,	/* compressed-tensors: "re:.*self_attn.*" */
	RULE_CLASS	/* "Linear": says nothing about one module for sure */
};

struct rule {
	enum rule_kind kind;
	enum says says;
	char *text;
	regex_t regex;
};

struct quant_config {
	char method[32];	/* "" when nothing is said */
	struct rule *rules;	/* exceptions first: the first that matches holds */
	size_t n_rules, cap;
	bool unread;		/* a pattern that only Python understands */
	bool activations, kv;
};

/* ---- rules --------------------------------------------------------------------------- */

/* Python's spelling in POSIX's, anchored at the start as re.match; -ENOTSUP for what POSIX lacks. */
static int posix_of(const char *python, struct buf *ret)
{
	buf_puts(ret, "^(");
	for (const char *p = python; *p; p++) {
		if (strncmp(p, "(?:", 3) == 0) {
			buf_putc(ret, '(');
			p += 2;
		} else if (strncmp(p, "(?", 2) == 0 || (p > python && strchr("*+?}", p[-1]) && *p == '?' &&
							(p < python + 2 || p[-2] != '\\'))) {
			return -ENOTSUP;
		} else if (strncmp(p, "\\d", 2) == 0) {
			buf_puts(ret, "[0-9]");
			p++;
		} else if (*p == '\\' && p[1]) {
			buf_putc(ret, *p++);
			buf_putc(ret, *p);
		} else {
			buf_putc(ret, *p);
		}
	}
	buf_putc(ret, ')');
	return buf_ok(ret) ? 0 : -ENOMEM;
}

/* regcomp() copies what is repeated, so repetitions of repetitions grow by powers: a folder's
 * config must not cost gigabytes.  One on another is refused, of a group by a count too, and more
 * than three by +; counts have two digits at most. */
static bool is_cheap(const char *python)
{
	unsigned groups = 0;

	for (const char *p = python; *p; p++) {
		const bool group = *p == ')', repeats = strchr("*+?}", *p) != NULL;

		if (*p == '\\' && p[1])
			p++;
		else if ((repeats && p[1] && strchr("*+{", p[1])) || (group && p[1] == '{') ||
			 (group && p[1] == '+' && ++groups > 3) ||
			 (*p == '{' && strspn(p + 1, "0123456789,") > 5) ||
			 (*p == '{' && strspn(p + 1, "0123456789") > 2))
			return false;
	}
	return true;
}

/* 0 when the rule was understood; its memory belongs to q in any case. */
static int compile(struct rule *r, const char *python)
{
	CLEANUP(buf_donep) struct buf posix = BUF_INIT;
	int rc = is_cheap(python) ? posix_of(python, &posix) : -ENOTSUP;

	if (rc < 0)
		return rc;
	return regcomp(&r->regex, posix.p, REG_EXTENDED | REG_NOSUB) == 0 ? 0 : -ENOTSUP;
}

static int add_rule(struct quant_config *q, const char *text, enum says says, struct err *e)
{
	struct rule r = { .kind = RULE_NAME, .says = says };
	const char *canon = text;
	int rc = 0;

	if (strlen(text) > MAX_PATTERN || q->n_rules == MAX_RULES)
		return err_set(e, -EINVAL, "quantization config: a list of modules is too long");
	if (q->n_rules == q->cap) {
		size_t cap = q->cap * 2 + 64;
		struct rule *more = realloc(q->rules, cap * sizeof(more[0]));

		if (!more)
			return err_set(e, -ENOMEM, "out of memory");
		q->rules = more;
		q->cap = cap;
	}
	if (strncmp(text, "re:", 3) == 0) {
		r.kind = RULE_REGEX;
		rc = compile(&r, text + 3);
	} else if (strpbrk(text, "*?[")) {
		r.kind = RULE_GLOB;
	} else if (!strchr(text, '.') && text[0] >= 'A' && text[0] <= 'Z') {
		r.kind = RULE_CLASS;
	} else {
		canon = tensor_canonical(text);
	}
	if (rc == -ENOMEM)
		return err_set(e, rc, "out of memory");
	if (rc < 0)
		q->unread = true;
	if (rc < 0 || !canon)	/* not understood, or the vision part's */
		return 0;
	r.text = strdup(canon);
	if (!r.text) {
		if (r.kind == RULE_REGEX)
			regfree(&r.regex);
		return err_set(e, -ENOMEM, "out of memory");
	}
	q->rules[q->n_rules++] = r;
	return 0;
}

static int add_list(struct quant_config *q, const json_t *list, enum says says, struct err *e)
{
	size_t i;
	json_t *v;
	int r = 0;

	json_array_foreach((json_t *)list, i, v) {
		const char *s = jx_str(v, NULL);

		if (!s)
			return err_set(e, -EINVAL, "quantization config: a list of modules has an entry "
				       "that is no name");
		if (r == 0)
			r = add_rule(q, s, says, e);
	}
	return r;
}

/* Patterns were written for the names of some exporter: each prefix is tried. */
static bool matches(const struct rule *r, const char *module)
{
	static const char *const prefix[] = { "", "model.language_model.", "model.", "language_model." };
	size_t n = strlen(r->text);
	char full[300];

	if (r->kind == RULE_CLASS)
		return true;
	if (r->kind == RULE_NAME)
		return strncmp(module, r->text, n) == 0 && (!module[n] || module[n] == '.');
	for (size_t i = 0; i < sizeof(prefix) / sizeof(prefix[0]); i++) {
		snprintf(full, sizeof(full), "%s%s", prefix[i], module);
		if (r->kind == RULE_GLOB ? fnmatch(r->text, full, 0) == 0 :
					   regexec(&r->regex, full, 0, NULL, 0) == 0)
			return true;
	}
	return false;
}

static bool is_said(enum says says, enum weight_format found)
{
	if (weight_is_plain(found))
		return says == SAYS_PLAIN;
	return (says == SAYS_FP8 && found == WF_FP8) || (says == SAYS_NVFP4 && found == WF_NVFP4);
}

bool quant_config_agrees(const struct quant_config *q, const char *module,
			 enum weight_format found, const char **ret_says)
{
	bool any = false;

	for (size_t i = 0; i < q->n_rules; i++) {
		const struct rule *r = &q->rules[i];

		if (!matches(r, module))
			continue;
		/* groups may overlap, and a class may leave out what looks like it */
		any = true;
		if (is_said(r->says, found) || (r->kind == RULE_CLASS && weight_is_plain(found)))
			return true;
		*ret_says = says_names[r->says];
		if (r->says == SAYS_PLAIN)
			return false;
	}
	if (any || q->unread || !q->method[0] || weight_is_plain(found))
		return !any;
	*ret_says = says_names[SAYS_PLAIN];
	return false;
}

/* ---- compressed-tensors ---------------------------------------------------------------- */

static bool present(const json_t *obj, const char *key)
{
	const json_t *v = json_object_get(obj, key);

	return v && !json_is_null(v);
}

static int64_t number(const json_t *obj, const char *key)
{
	int64_t x = 0;

	return jx_int64(json_object_get(obj, key), &x) < 0 ? 0 : x;
}

static enum says says_of_weights(const json_t *weights)
{
	const char *type = jx_str(json_object_get(weights, "type"), NULL);
	int64_t bits = number(weights, "num_bits");

	if (!weights || json_is_null(weights))
		return SAYS_PLAIN;
	if (!type || strcmp(type, "float") != 0)
		return SAYS_OTHER;
	if (bits == 8)
		return SAYS_FP8;
	return bits == 4 && number(weights, "group_size") == 16 ? SAYS_NVFP4 : SAYS_OTHER;
}

static int read_groups(struct quant_config *q, const json_t *top, struct err *e)
{
	json_t *groups = json_object_get(top, "config_groups"), *g;
	const char *name;
	int r = add_list(q, json_object_get(top, "ignore"), SAYS_PLAIN, e);

	q->kv |= present(top, "kv_cache_scheme");
	json_object_foreach(groups, name, g) {
		q->activations |= present(g, "input_activations");
		if (r == 0)
			r = add_list(q, json_object_get(g, "targets"),
				     says_of_weights(json_object_get(g, "weights")), e);
	}
	return r;
}

/* ---- ModelOpt ---------------------------------------------------------------------------- */

static enum says says_of_algo(const char *algo)
{
	static const struct {
		const char *algo;
		enum says says;
	} known[] = {
		{ "FP8", SAYS_FP8 }, { "FP8_PB_WO", SAYS_FP8 }, { "FP8_PER_CHANNEL_PER_TOKEN", SAYS_FP8 },
		{ "NVFP4", SAYS_NVFP4 }, { "W4A16_NVFP4", SAYS_NVFP4 }, { "NVFP4_SVD", SAYS_OTHER },
	};

	for (size_t i = 0; algo && i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(algo, known[i].algo) == 0)
			return known[i].says;
	return SAYS_OTHER;
}

static int read_layers(struct quant_config *q, json_t *layers, struct err *e)
{
	const char *name;
	json_t *v;
	int r = 0;

	json_object_foreach(layers, name, v) {
		const char *algo = jx_str(json_object_get(v, "quant_algo"), NULL);

		q->activations |= algo && strncmp(algo, "W4A16", 5) != 0;
		if (r == 0)
			r = add_rule(q, name, says_of_algo(algo), e);
	}
	return r;
}

static int read_modelopt(struct quant_config *q, const json_t *top, struct err *e)
{
	const char *algo = jx_str(json_object_get(top, "quant_algo"), NULL);
	json_t *layers = json_object_get(top, "quantized_layers");
	const char *kv = jx_str(json_object_get(top, "kv_cache_quant_algo"), NULL);
	int r = add_list(q, json_object_get(top, "exclude_modules"), SAYS_PLAIN, e);

	q->kv |= kv != NULL || present(top, "kv_cache_scheme");
	if (r == 0)
		r = add_list(q, json_object_get(top, "ignore"), SAYS_PLAIN, e);
	if (r == 0 && json_is_object(layers))
		return read_layers(q, layers, e);
	q->activations |= algo && strncmp(algo, "W4A16", 5) != 0 && strcmp(algo, "FP8_PB_WO") != 0;
	return r == 0 ? add_rule(q, "Linear", says_of_algo(algo), e) : r;
}

/* ---- the official FP8 ---------------------------------------------------------------------- */

static int read_fp8(struct quant_config *q, const json_t *top, struct err *e)
{
	const json_t *block = json_object_get(top, "weight_block_size");
	const char *scheme = jx_str(json_object_get(top, "activation_scheme"), NULL);
	int64_t rows = 128, cols = 128;

	if (block && !json_is_null(block) &&
	    (json_array_size(block) != 2 || jx_int64(json_array_get(block, 0), &rows) < 0 ||
	     jx_int64(json_array_get(block, 1), &cols) < 0 || rows != 128 || cols != 128))
		return err_set(e, -ENOTSUP, "config.json: 'weight_block_size' is not [128, 128]");
	q->activations = scheme != NULL;
	int r = add_list(q, json_object_get(top, "modules_to_not_convert"), SAYS_PLAIN, e);
	return r == 0 ? add_rule(q, "Linear", SAYS_FP8, e) : r;
}

/* ---- files ------------------------------------------------------------------------------------ */

static const json_t *quantization_of(const json_t *config)
{
	const json_t *q = json_object_get(config, "quantization_config");

	if (!q)
		q = json_object_get(json_object_get(config, "text_config"), "quantization_config");
	return json_is_null(q) ? NULL : q;
}

static int read_all(struct quant_config *q, const json_t *config, const json_t *modelopt, struct err *e)
{
	const json_t *own = quantization_of(config), *inner;
	const char *method = jx_str(json_object_get(own, "quant_method"), NULL);

	if (modelopt) {
		inner = json_object_get(modelopt, "quantization");
		strcpy(q->method, "modelopt");
		if (!json_is_object(inner))
			return err_set(e, -EINVAL, "hf_quant_config.json: no 'quantization'");
		return read_modelopt(q, inner, e);
	}
	if (!own)
		return 0;
	if (!method || strlen(method) >= sizeof(q->method))
		return err_set(e, -EINVAL, "config.json: 'quantization_config' has no 'quant_method'");
	strcpy(q->method, method);
	if (strcmp(method, "fp8") == 0)
		return read_fp8(q, own, e);
	if (strcmp(method, "compressed-tensors") == 0)
		return read_groups(q, own, e);
	if (strcmp(method, "modelopt") == 0 || strcmp(method, "modelopt_fp4") == 0)
		return read_modelopt(q, own, e);
	return err_set(e, -ENOTSUP, "config.json: weights quantised by '%s' cannot be read; plain ones, fp8, "
		       "compressed-tensors and modelopt can", method);
}

static void closep_(struct quant_config **q)
{
	quant_config_close(*q);
}

static int from_json(const json_t *config, const json_t *modelopt, struct quant_config **ret,
		     struct err *e)
{
	CLEANUP(closep_) struct quant_config *q = calloc(1, sizeof(*q));
	int r = q ? read_all(q, config, modelopt, e) : err_set(e, -ENOMEM, "out of memory");

	if (r < 0)
		return r;
	*ret = TAKE(q);
	return 0;
}

int quant_config_parse(const char *config_json, const char *hf_quant_config_json,
		       struct quant_config **ret, struct err *e)
{
	JX_OWNED json_t *config = NULL;
	JX_OWNED json_t *modelopt = NULL;
	int r = config_json ? jx_load(config_json, strlen(config_json), &config, e) : 0;

	if (r == 0 && hf_quant_config_json)
		r = jx_load(hf_quant_config_json, strlen(hf_quant_config_json), &modelopt, e);
	return r == 0 ? from_json(config, modelopt, ret, e) : r;
}

int quant_config_open(const char *dir, struct quant_config **ret, struct err *e)
{
	CLEANUP(buf_donep) struct buf path = BUF_INIT, second = BUF_INIT;
	JX_OWNED json_t *config = NULL;
	JX_OWNED json_t *modelopt = NULL;

	if (buf_printf(&path, "%s/config.json", dir) < 0 ||
	    buf_printf(&second, "%s/hf_quant_config.json", dir) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	int r = jx_load_file(path.p, MAX_CONFIG, &config, e);
	if (r == 0 && access(second.p, F_OK) == 0)
		r = jx_load_file(second.p, MAX_CONFIG, &modelopt, e);
	if (r == 0)
		r = from_json(config, modelopt, ret, e);
	return r < 0 ? err_prefix(e, r, "%s", dir) : 0;
}

struct quant_config *quant_config_close(struct quant_config *q)
{
	if (!q)
		return NULL;
	for (size_t i = 0; i < q->n_rules; i++) {
		if (q->rules[i].kind == RULE_REGEX)
			regfree(&q->rules[i].regex);
		free(q->rules[i].text);
	}
	free(q->rules);
	free(q);
	return NULL;
}

const char *quant_config_method(const struct quant_config *q)
{
	return q->method[0] ? q->method : NULL;
}

bool quant_config_activations(const struct quant_config *q)
{
	return q->activations;
}

bool quant_config_kv(const struct quant_config *q)
{
	return q->kv;
}
