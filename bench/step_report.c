/* step_report.c - see step_report.h. */
#include "bench/step_report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/json.h"

void step_report_begin(struct step_report *p, enum step_format format)
{
	*p = (struct step_report){ .format = format };
	if (format == STEP_JSON)
		printf("{\"conditions\": {");
}

static void put_json_string(const char *s)
{
	struct buf b = BUF_INIT;

	jx_put_str(&b, s, strlen(s));
	fwrite(b.n ? b.p : "\"\"", 1, b.n ? b.n : 2, stdout);
	buf_done(&b);
}

void step_report_condition(struct step_report *p, const char *key, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (p->format == STEP_MARKDOWN) {
		printf("- %s: %s\n", key, text);
	} else if (p->format == STEP_CSV) {
		printf("# %s: %s\n", key, text);
	} else {
		printf("%s\n  \"%s\": ", p->n_conditions ? "," : "", key);
		put_json_string(text);
	}
	p->n_conditions++;
}

void step_report_number(struct step_report *p, const char *key, double x, const char *unit)
{
	if (p->format != STEP_JSON) {
		step_report_condition(p, key, "%.10g%s%s", x, *unit ? " " : "", unit);
		return;
	}
	printf("%s\n  \"%s\": %.10g", p->n_conditions ? "," : "", key, x);
	p->n_conditions++;
}

/* ---- a cell as numbers ----------------------------------------------------------------- */

enum field {
	F_BATCH, F_TOKENS, F_STEPS, F_TOK_S, F_MS, F_MS_MEDIAN, F_BYTES, F_DEVICE_BYTES, F_BYTES_S, F_ROOF,
	F_EXPERTS, F_EXPECTED, F_SUBMIT_US, F_SUBMIT_SHARE, F_IDS, F_N
};

static const char *const field_name[F_N] = {
	"batch", "tokens", "steps", "tok_s", "ms", "ms_median", "bytes", "device_bytes", "bytes_s", "roof_fraction",
	"experts", "experts_expected", "submit_us", "submit_share", "ids",
};

/* NAN: not known.  Times are of a step, of a prompt those of all of it. */
static void fields_of(const struct step_report *p, const struct step_cell *c, double ret[F_N])
{
	const double times = c->prompt ? 1 : c->steps, each = c->seconds / times;
	const double moved = c->device_bytes >= 0 ? c->device_bytes : c->bytes;

	for (int i = 0; i < F_N; i++)
		ret[i] = NAN;
	ret[F_BATCH] = c->batch;
	ret[F_TOKENS] = c->tokens;
	ret[F_STEPS] = c->steps;
	ret[F_TOK_S] = (c->prompt ? c->tokens : c->batch) / each;
	ret[F_MS] = each * 1e3;
	ret[F_MS_MEDIAN] = c->median >= 0 ? c->median * 1e3 : NAN;
	ret[F_BYTES] = c->bytes >= 0 ? c->bytes : NAN;
	ret[F_DEVICE_BYTES] = c->device_bytes >= 0 ? c->device_bytes : NAN;
	ret[F_BYTES_S] = moved >= 0 ? moved / each : NAN;
	ret[F_ROOF] = moved >= 0 && p->roof > 0 ? moved / each / p->roof : NAN;
	ret[F_EXPERTS] = c->experts >= 0 ? c->experts : NAN;
	ret[F_EXPECTED] = c->expected >= 0 ? c->expected : NAN;
	ret[F_SUBMIT_US] = c->in_submit / times * 1e6;
	ret[F_SUBMIT_SHARE] = c->in_submit / c->seconds;
	ret[F_IDS] = (uint32_t)c->ids;	/* 32 bits: what a double, and a reader, can hold */
}

/* ---- CSV and JSON ---------------------------------------------------------------------- */

static void csv_header(const struct step_report *p)
{
	printf("kind");
	for (int i = 0; i < F_N; i++)
		printf(",%s", field_name[i]);
	for (uint32_t i = 0; i < p->run->n_classes; i++) {
		struct buf b = BUF_INIT;

		buf_printf(&b, "ms of %s", p->run->class_name[i]);
		for (size_t k = 0; k < b.n; k++)	/* a name may have a comma */
			b.p[k] = b.p[k] == ',' ? ';' : b.p[k];
		printf(",%s", b.n ? b.p : "");
		buf_done(&b);
	}
	printf("\n");
}

static void csv_cell(const struct step_report *p, const struct step_cell *c, const double f[F_N])
{
	printf("%s", c->prompt ? "prompt" : "decode");
	for (int i = 0; i < F_N; i++)
		if (isnan(f[i]))
			printf(",");
		else
			printf(",%.10g", f[i]);
	for (uint32_t i = 0; i < p->run->n_classes; i++)
		printf(",%.10g", c->class_ms[i]);
	printf("\n");
}

static void json_cell(const struct step_report *p, const struct step_cell *c, const double f[F_N])
{
	printf("%s\n  {\"kind\": \"%s\"", p->n_cells ? "," : "", c->prompt ? "prompt" : "decode");
	for (int i = 0; i < F_N; i++)
		if (isnan(f[i]))
			printf(", \"%s\": null", field_name[i]);
		else
			printf(", \"%s\": %.10g", field_name[i], f[i]);
	printf(", \"class_ms\": {");
	for (uint32_t i = 0; i < p->run->n_classes; i++)
		printf("%s\"%s\": %.10g", i ? ", " : "", p->run->class_name[i], c->class_ms[i]);
	printf("}}");
}

/* ---- markdown -------------------------------------------------------------------------- */

static void known(double x, int digits)
{
	if (isnan(x))
		printf(" |");
	else
		printf(" %.*f |", digits, x);
}

static void markdown_prompt(struct step_report *p, const double f[F_N])
{
	if (!p->prompts)
		printf("\n## Prompts, one at a time\n\n| tokens | tok/s | ms | ms, median | steps | us in submit | "
		       "of the time | ids |\n|--:|--:|--:|--:|--:|--:|--:|---|\n");
	p->prompts = true;
	printf("| %.0f | %.0f | %.3f | %.3f | %.0f | %.0f | %.3f | %08x |\n", f[F_TOKENS], f[F_TOK_S], f[F_MS],
	       f[F_MS_MEDIAN], f[F_STEPS], f[F_SUBMIT_US], f[F_SUBMIT_SHARE], (uint32_t)f[F_IDS]);
}

static void markdown_decode(struct step_report *p, const double f[F_N])
{
	if (!p->decodes)
		printf("\n## Decode\n\n| context | batch | tok/s | ms a step | MB a step | MB on the device | GB/s | "
		       "of the read roof | experts a layer | expected | us in submit | of the time | ids |\n"
		       "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n");
	p->decodes = true;
	printf("| %.0f | %.0f | %.1f | %.3f |", f[F_TOKENS], f[F_BATCH], f[F_TOK_S], f[F_MS]);
	known(f[F_BYTES] / 1e6, 2);
	known(f[F_DEVICE_BYTES] / 1e6, 2);
	known(f[F_BYTES_S] / 1e9, 2);
	known(f[F_ROOF], 3);
	known(f[F_EXPERTS], 1);
	known(f[F_EXPECTED], 1);
	printf(" %.1f | %.3f | %08x |\n", f[F_SUBMIT_US], f[F_SUBMIT_SHARE], (uint32_t)f[F_IDS]);
}

static void markdown_classes(const struct step_report *p)
{
	const struct step_run *r = p->run;

	if (!r || !r->n_classes)
		return;
	printf("\n## Milliseconds by class of kernel\n\nOf a decode step, or of a whole prompt, with events between the "
	       "classes and without graphs: their sum is above the time of the tables.\n\n| class |");
	for (uint32_t i = 0; i < p->n_cells; i++) {
		const struct step_cell *c = p->measured[i];

		if (c->prompt)
			printf(" prompt %u |", c->tokens);
		else
			printf(" %u at %u |", c->batch, c->tokens);
	}
	printf("\n|---|");
	for (uint32_t i = 0; i < p->n_cells; i++)
		printf("--:|");
	for (uint32_t k = 0; k < r->n_classes; k++) {
		printf("\n| %s |", r->class_name[k]);
		for (uint32_t i = 0; i < p->n_cells; i++)
			printf(" %.3f |", p->measured[i]->class_ms[k]);
	}
	printf("\n");
}

/* ---- the report ------------------------------------------------------------------------ */

void step_report_skipped(struct step_report *p, const struct step_cell *c, const char *why)
{
	char what[64];

	snprintf(what, sizeof(what), "%s %u, batch %u", c->prompt ? "prompt" : "context", c->tokens, c->batch);
	if (p->format == STEP_MARKDOWN) {
		printf("- skipped: %s: %s\n", what, why);
	} else if (p->format == STEP_CSV) {
		printf("# skipped: %s: %s\n", what, why);
	} else {
		printf("%s\n  {\"kind\": \"%s\", \"batch\": %u, \"tokens\": %u, \"why\": ",
		       p->n_skipped ? "," : "},\n \"skipped\": [", c->prompt ? "prompt" : "decode", c->batch, c->tokens);
		put_json_string(why);
		printf("}");
	}
	p->n_skipped++;
}

/* What stands between conditions and cells. */
static void open_cells(const struct step_report *p)
{
	if (p->format == STEP_CSV)
		csv_header(p);
	if (p->format == STEP_JSON)
		printf("%s,\n \"cells\": [", p->n_skipped ? "]" : "},\n \"skipped\": []");
}

void step_report_cell(struct step_report *p, const struct step_cell *c)
{
	double f[F_N];

	if (!p->n_cells)
		open_cells(p);
	fields_of(p, c, f);
	if (p->format == STEP_CSV)
		csv_cell(p, c, f);
	else if (p->format == STEP_JSON)
		json_cell(p, c, f);
	else if (c->prompt)
		markdown_prompt(p, f);
	else
		markdown_decode(p, f);
	p->measured[p->n_cells++] = c;
	fflush(stdout);
}

void step_report_end(struct step_report *p, const char *error)
{
	if (p->format == STEP_MARKDOWN) {
		markdown_classes(p);
		if (error)
			printf("\nCut short: %s\n", error);
	} else if (p->format == STEP_CSV) {
		if (error)
			printf("# cut short: %s\n", error);
	} else {
		if (!p->n_cells)
			open_cells(p);
		printf("],\n \"error\": ");
		if (error)
			put_json_string(error);
		else
			printf("null");
		printf("}\n");
	}
	fflush(stdout);
}

void step_report_failed(enum step_format format, const char *error)
{
	if (format != STEP_JSON)
		return;
	printf("{\"error\": ");
	put_json_string(error);
	printf("}\n");
}
