/* step_conditions.c - see step_conditions.h. */
#include "config.h"

#include "bench/step_conditions.h"

#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "bench/commit.h"

static void machine(struct step_report *p, const struct step_run *r)
{
	const struct device_measures *f = &r->t->facts;
	struct utsname u;
	time_t now = time(NULL);
	struct tm day;
	char text[40];

	gmtime_r(&now, &day);
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", &day);
	step_report_condition(p, "date", "%s", text);
	step_report_condition(p, "command", "%s", r->o->command);
	step_report_condition(p, "commit", "%s (%s)", BENCH_COMMIT, PACKAGE_VERSION);
	step_report_condition(p, "device", "%s: %s", r->o->device, f->device);
	if (*f->driver)
		step_report_condition(p, "driver", "%s", f->driver);
	step_report_condition(p, "numerics", "%s", device_numeric_text(r->d));
	if (uname(&u) == 0)
		step_report_condition(p, "host", "Linux %s %s, %ld processors", u.release, u.machine,
				      sysconf(_SC_NPROCESSORS_ONLN));
}

static void model(struct step_report *p, const struct step_run *r)
{
	const struct step_model *m = r->m;
	const struct model_shape *s = &m->shape;
	uint32_t attention = 0;
	char text[1024];

	for (uint32_t i = 0; i < s->n_layers; i++)
		attention += s->mixer[i] == MIXER_ATTENTION;
	step_model_formats(m, text, sizeof(text));
	if (m->checkpoint)
		step_report_condition(p, "model", "%s", r->o->model);
	else
		step_report_condition(p, "model", "made-up weights as %s, shape %s", dummy_recipe_name(m->dummy.recipe),
				      r->o->shape);
	step_report_condition(p, "shape", "%u layers (%u attention), width %u, vocabulary %u, %u of %u experts",
			      s->n_layers, attention, s->hidden, s->vocab_rows, s->n_experts_used, s->n_experts);
	step_report_condition(p, "formats", "%s; KV %s", text, r->o->kv == KV_FP8 ? "FP8" : "BF16");
}

static void method(struct step_report *p, const struct step_run *r)
{
	const struct step_options *o = r->o;

	step_report_condition(p, "sampling", "%s", o->greedy ? "arg-max" : "temperature 0.7, top_k 20, top_p 0.95");
	step_report_condition(p, "method",
			      "submit and collect, %s; wall clock; a random prompt each; prompts in steps of at most %u "
			      "rows, alone, the best of %u after one to warm up; decode: %u steps after %u to warm up%s; "
			      "drafts %s", o->ahead ? "a step ahead" : "no step ahead",
			      r->t->limits.max_rows / STEP_GRID * STEP_GRID, o->repeat, o->steps, STEP_WARM_UP,
			      r->profiles ? ", then 24 by class" : "", o->draft ? "on (their bytes are not counted)" : "off");
	step_report_condition(p, "counting", "bytes of a step by the checkpoint's formats: weights that every step reads, "
			      "experts in use, embedding row, state in and out, keys and values of all positions");
}

static void sizes(struct step_report *p, const struct step_run *r)
{
	const struct device_budget *b = &r->t->budget;

	step_report_number(p, "bytes_always", r->bytes.always, "bytes of weights in every step");
	step_report_number(p, "bytes_expert", r->bytes.expert, "bytes of an expert of a layer");
	step_report_number(p, "bytes_sequence", r->bytes.row, "bytes of a sequence: embedding row, state in and out");
	step_report_number(p, "bytes_position", r->bytes.position, "bytes of a position: keys and values");
	if (r->reads_known) {
		step_report_number(p, "device_always", (double)r->step_bytes, "bytes, as the device keeps them");
		step_report_number(p, "device_expert", (double)r->expert_bytes, "bytes, as the device keeps them");
		step_report_number(p, "device_logits", step_bytes_logits(&r->m->shape), "bytes of a sequence, beside the others");
	}
	step_report_number(p, "budget_weights", (double)b->weights, "bytes");
	step_report_number(p, "budget_kv", (double)b->kv, "bytes");
	step_report_number(p, "budget_states", (double)b->states, "bytes");
	step_report_number(p, "budget_workspace", (double)b->workspace, "bytes");
	if (p->roof > 0)
		step_report_number(p, "read_roof", p->roof, "bytes/s, plain reads in this run");
}

void step_conditions(struct step_report *p, const struct step_run *r)
{
	machine(p, r);
	model(p, r);
	method(p, r);
	sizes(p, r);
}
