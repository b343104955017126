/* flight.c - see flight.h. */
#include "worker/flight.h"

#include <inttypes.h>
#include <stdio.h>

#include "lib/clock.h"

static const char *const kind_name[] = {
	[ROW_PREFILL] = "prefill", [ROW_DECODE] = "decode", [ROW_REPLAY] = "replay",
};

/* snprintf() that goes on where the last one ended; what does not fit is cut. */
#define ADD(...) \
	(at += at < FLIGHT_TEXT ? (size_t)snprintf(ret + at, FLIGHT_TEXT - at, __VA_ARGS__) : 0)

static size_t one_text(const struct step_flight *f, size_t at, char *ret)
{
	const char *sep = ", ";

	ADD("step %" PRIu64 ": %" PRIu32 " runs", f->step, f->n_runs);
	for (int k = 0; k <= ROW_REPLAY; k++) {
		if (!f->rows[k])
			continue;
		ADD("%s%" PRIu32 " %s", sep, f->rows[k], kind_name[k]);
		sep = " + ";
	}
	ADD(" rows");
	return at;
}

void flights_text(const struct step_flight *f, uint32_t n, char ret[FLIGHT_TEXT])
{
	size_t at = 0;

	if (!n)
		ADD("no step in flight");
	for (uint32_t i = 0; i < n; i++) {
		if (i)
			ADD("; ");
		at = one_text(&f[i], at, ret);
	}
}

uint64_t flights_bound_ms(const struct step_flight *f, uint32_t n, uint64_t base_ms)
{
	uint64_t rows = 0;

	for (uint32_t i = 0; i < n; i++)
		for (int k = 0; k <= ROW_REPLAY; k++)
			rows += f[i].rows[k];
	if (rows > FLIGHT_MOST_ROWS)
		rows = FLIGHT_MOST_ROWS;
	return base_ms + rows * base_ms / 600;
}

bool number_watch_step(struct number_watch *w, uint32_t n_sampled, uint32_t n_bad, uint64_t now_ns)
{
	if (!n_bad) {
		if (n_sampled)
			w->n = 0;
		return false;
	}
	if (n_bad > 1 && n_bad == n_sampled)
		return true;
	if (!w->n || now_ns - w->since_ns > 60 * NS_PER_S) {
		w->n = 0;
		w->since_ns = now_ns;
	}
	w->n += n_bad;
	return w->limit && w->n >= w->limit;
}
