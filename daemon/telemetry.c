/* telemetry.c - see telemetry.h. */
#include "daemon/telemetry.h"

#include <stdio.h>
#include <string.h>

#include "lib/own.h"

static void read_memory(struct telemetry *t)
{
	const struct {
		const char *name;
		uint64_t *to;
	} rows[] = {
		{ "MemTotal:", &t->memory_total }, { "MemFree:", &t->memory_free },
		{ "MemAvailable:", &t->memory_available }, { "Cached:", &t->memory_cached },
	};
	CLEANUP(fclosep) FILE *f = fopen("/proc/meminfo", "re");
	char line[128], name[64];
	unsigned long long kib;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %llu", name, &kib) != 2)
			continue;
		for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
			if (!strcmp(name, rows[i].name))
				*rows[i].to = kib << 10;
	}
}

static void read_pressure(struct telemetry *t)
{
	CLEANUP(fclosep) FILE *f = fopen("/proc/pressure/memory", "re");
	char line[128];
	double x;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "some avg10=%lf", &x) == 1)
			t->pressure_some = x;
		else if (sscanf(line, "full avg10=%lf", &x) == 1)
			t->pressure_full = x;
	}
}

void telemetry_read(struct telemetry *ret)
{
	CLEANUP(fclosep) FILE *f = fopen("/proc/loadavg", "re");
	double load;

	*ret = (struct telemetry){ 0 };
	read_memory(ret);
	read_pressure(ret);
	if (f && fscanf(f, "%lf", &load) == 1)
		ret->load_1 = load;
}
