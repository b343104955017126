/* template.c - see template.h: opening, and the one place that catches what the
 * interpreter raises. */
#include "worker/text/template.h"

#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/own.h"
#include "worker/text/jinja/parse.h"
#include "worker/text/jinja/run.h"

#define MAX_TEMPLATE_BYTES (4u << 20)
#define MAX_CONFIG_BYTES   (64u << 20)

struct define {
	char *name, *text;
};

struct template {
	struct jinja j;			/* holds the nodes */
	struct block body;
	struct name **names;
	struct define *defines;
	size_t n_defines;
};

void rendered_done(struct rendered *r)
{
	buf_done(&r->text);
	free(r->data);
	*r = RENDERED_INIT;
}

struct template *template_free(struct template *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < t->n_defines; i++) {
		free(t->defines[i].name);
		free(t->defines[i].text);
	}
	free(t->defines);
	arena_done(&t->j.mem);
	free(t);
	return NULL;
}

static void template_freep(struct template **t)
{
	template_free(*t);
}

int template_define(struct template *t, const char *name, const char *text)
{
	struct define *more = realloc(t->defines, (t->n_defines + 1) * sizeof(*more));
	struct define d;

	if (!more)
		return -ENOMEM;
	t->defines = more;
	d.name = strdup(name);
	d.text = strdup(text);
	if (!d.name || !d.text) {
		free(d.name);
		free(d.text);
		return -ENOMEM;
	}
	t->defines[t->n_defines++] = d;
	return 0;
}

/* ---- parsing ---- */

/* Only pointers are alive across the jump, and they do not change. */
static int parse_caught(struct template *t, const char *text, size_t n)
{
	if (setjmp(t->j.out))
		return t->j.code;
	t->body = parse(&t->j, text, n, &t->names);
	return 0;
}

int template_parse(const char *text, size_t n, struct template **ret, struct err *e)
{
	CLEANUP(template_freep) struct template *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	if (n > MAX_TEMPLATE_BYTES)
		return err_set(e, -EFBIG, "the template is longer than %u bytes",
			       MAX_TEMPLATE_BYTES);
	t->j.mem = ARENA_INIT((size_t)1 << 30);
	t->j.max_steps = 100000000;
	t->j.e = e;
	r = parse_caught(t, text, n);
	t->j.e = NULL;
	if (r < 0)
		return r;
	*ret = TAKE(t);
	return 0;
}

/* ---- a model's folder ---- */

/* chat_template: a string, or a list of {name, template} with one named "default". */
static const char *template_of_config(const json_t *config, size_t *ret_n)
{
	const json_t *v = json_object_get(config, "chat_template");

	for (size_t i = 0; i < json_array_size(v); i++) {
		const json_t *one = json_array_get(v, i);
		const char *name = jx_str(json_object_get(one, "name"), NULL);

		if (name && !strcmp(name, "default"))
			return jx_str(json_object_get(one, "template"), ret_n);
	}
	return jx_str(v, ret_n);
}

/* "bos_token": "<s>", or an object with "content". */
static int define_tokens(struct template *t, const json_t *config)
{
	static const char *const names[] = {
		"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token",
		"mask_token",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		const json_t *v = json_object_get(config, names[i]);
		const char *text = jx_str(v, NULL);

		if (!text)
			text = jx_str(json_object_get(v, "content"), NULL);
		if (text && template_define(t, names[i], text) < 0)
			return -ENOMEM;
	}
	return 0;
}

static char *path_in(const char *dir, const char *name)
{
	CLEANUP(buf_donep) struct buf b = BUF_INIT;

	buf_printf(&b, "%s/%s", dir, name);
	return buf_take(&b, NULL);
}

int template_open(const char *model_dir, struct template **ret, struct err *e)
{
	CLEANUP(freep) char *path = path_in(model_dir, "chat_template.jinja");
	CLEANUP(freep) char *config_path = path_in(model_dir, "tokenizer_config.json");
	CLEANUP(template_freep) struct template *t = NULL;
	CLEANUP(freep) char *own = NULL;
	JX_OWNED json_t *config = NULL;
	const char *text;
	size_t n = 0;
	int r;

	if (!path || !config_path)
		return -ENOMEM;
	r = jx_load_file(config_path, MAX_CONFIG_BYTES, &config, e);
	if (r < 0 && r != -ENOENT)
		return r;
	r = file_read(path, MAX_TEMPLATE_BYTES, &own, &n, e);
	if (r < 0 && r != -ENOENT)
		return r;
	text = r == 0 ? own : template_of_config(config, &n);
	if (!text)
		return err_set(e, -ENOENT, "%s: no chat_template.jinja, and no chat_template in"
			       " tokenizer_config.json", model_dir);
	r = template_parse(text, n, &t, e);
	if (r < 0)
		return err_prefix(e, r, "%s: chat template", model_dir);
	if (define_tokens(t, config) < 0)
		return -ENOMEM;
	*ret = TAKE(t);
	return 0;
}

/* ---- rendering ---- */

/* The root's variables; the last of one name is the one that is found. */
static void add_variable(struct run *r, const char *name, struct value v)
{
	const struct name *known = name_find(r->names, name, strlen(name));
	struct frame *f = r->root;

	if (!known)	/* the template never asks for it */
		return;
	for (size_t i = 0; i < f->n; i++) {
		if (f->at[i].name == known) {
			f->at[i].v = v;
			return;
		}
	}
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 16;

		f->at = jinja_grow(&r->j, f->at, f->n, cap, sizeof(*f->at));
		f->cap = cap;
	}
	f->at[f->n].name = known;
	f->at[f->n++].v = v;
}

static void add_member(struct run *r, const json_t *request, const char *name,
		       struct value otherwise)
{
	const json_t *v = json_object_get(request, name);

	add_variable(r, name, v ? v_from_json(&r->j, v) : otherwise);
}

static void add_variables(struct run *r, const struct template *t, const json_t *request)
{
	static const char *const own[] = {
		"messages", "tools", "documents", "add_generation_prompt",
	};
	json_t *kwargs = json_object_get(request, "chat_template_kwargs"), *v;
	const char *key;

	if (!json_is_object(request))
		jinja_fail(&r->j, "the request is not an object");
	if (kwargs && !json_is_object(kwargs) && !json_is_null(kwargs))
		jinja_fail(&r->j, "chat_template_kwargs: must be an object");
	for (size_t i = 0; i < t->n_defines; i++)
		add_variable(r, t->defines[i].name, v_text(&r->j, t->defines[i].text));
	json_object_foreach(kwargs, key, v) {
		for (size_t i = 0; i < sizeof(own) / sizeof(*own); i++)
			if (!strcmp(key, own[i]))
				jinja_fail(&r->j, "chat_template_kwargs: may not set '%s'", key);
		add_variable(r, key, v_from_json(&r->j, v));
	}
	add_member(r, request, "messages", v_no_such(&r->j, MISSING, v_text(&r->j, "messages")));
	add_member(r, request, "tools", NONE);
	add_member(r, request, "documents", NONE);
	add_member(r, request, "add_generation_prompt", v_bool(true));
}

static size_t count_spans(const struct str *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += s->marks[i] == DATA && (i == 0 || s->marks[i - 1] != DATA);
	return n;
}

/* What was rendered, in memory that outlives the arena. */
static int hand_over(struct str *s, struct rendered *ret)
{
	CLEANUP(buf_donep) struct buf text = BUF_INIT;
	size_t n = s->marks ? count_spans(s) : s->mark == DATA && s->n, k = 0;
	struct text_span *data = NULL;

	buf_put(&text, s->p, s->n);
	if (n)
		data = calloc(n, sizeof(*data));
	if (!buf_ok(&text) || (n && !data)) {
		free(data);
		return -ENOMEM;
	}
	if (n && !s->marks)
		data[0].to = s->n;
	for (size_t i = 0; s->marks && i < s->n; i++) {
		if (s->marks[i] != DATA)
			continue;
		if (i == 0 || s->marks[i - 1] != DATA)
			data[k++].from = i;
		data[k - 1].to = i + 1;
	}
	rendered_done(ret);
	*ret = (struct rendered){ text, data, n };
	text = BUF_INIT;
	return 0;
}

static int render_caught(struct run *r, const struct template *t, const json_t *request,
			 struct str **ret)
{
	struct str_out *o;

	if (setjmp(r->j.out))
		return r->j.code;
	o = jinja_alloc(&r->j, 1, sizeof(*o));
	*o = STR_OUT(&r->j);
	o->limit = r->max_output;
	r->out = o;
	r->frame = r->root = jinja_alloc(&r->j, 1, sizeof(*r->root));
	add_variables(r, t, request);
	exec(r, &t->body);
	*ret = str_out_done(o);
	str_bytes(&r->j, *ret);
	return 0;
}

int template_render(const struct template *t, const json_t *request,
		    const struct template_limits *limits, struct rendered *ret, struct err *e)
{
	struct template_limits l = limits ? *limits : (struct template_limits){ 0 };
	struct run run = { .names = t->names, .now = l.now ? l.now : clock_wall_s() };
	struct str *s = NULL;
	int r;

	run.j.mem = ARENA_INIT(l.memory_bytes ? l.memory_bytes : (size_t)1 << 30);
	run.j.max_steps = l.steps ? l.steps : 50000000;
	run.j.e = e;
	run.max_output = l.output_bytes ? l.output_bytes : (size_t)64 << 20;
	r = render_caught(&run, t, request, &s);
	if (r == 0)
		r = hand_over(s, ret);
	arena_done(&run.j.mem);
	return r;
}
