/* memory_measure.c - what the broker judges by: the box, its GPUs, what workers took, who else
 * holds memory. */
#include <unistd.h>

#include "daemon/holders.h"
#include "daemon/memory_int.h"
#include "daemon/nvml.h"
#include "lib/bytes.h"
#include "lib/clock.h"
#include "lib/log.h"

#define LEAST_HOLDER (128 * BYTES_MIB)

/* Pressure over the last second: the kernel's own averages are of ten and more. */
static void read_pressure(struct memory *m, uint64_t now)
{
	struct meminfo_psi p;

	m->psi_known = meminfo_psi_read(NULL, &p) == 0;
	if (!m->psi_known || now - m->psi_ns < NS_PER_S)
		return;
	if (m->psi_ns && p.full_us >= m->psi_us)
		m->psi = (uint32_t)((p.full_us - m->psi_us) * 100000 / (now - m->psi_ns));
	m->psi_ns = now;
	m->psi_us = p.full_us;
}

/* Workers on the CPU take their memory as they touch it: what they have is measured. */
static void read_taken(struct memory *m)
{
	for (struct visitor *v = desk_first(m->desk); v; v = v->next) {
		const struct broker_claim *c = v->leased ? broker_find(m->broker, v->id) : NULL;
		uint64_t bytes;

		if (c && c->measured && holders_taken(NULL, v->pid, &bytes) == 0)
			broker_taken(m->broker, v->id, bytes, 0);
	}
}

void memory_read_gpus(struct memory *m)
{
	for (unsigned i = 0; i < nvml_count(m->nvml) && i < BROKER_MAX_GPUS; i++) {
		struct nvml_gpu g;

		if (nvml_read(m->nvml, i, &g) < 0 || !g.own_memory)
			continue;
		m->gpus_own[i] = true;
		m->measure.gpu_total[i] = g.total;
		m->measure.gpu_free[i] = g.free;
	}
}

void memory_measure(struct memory *m)
{
	uint64_t now = clock_ns(), percpu;
	struct err e;

	if (meminfo_read(NULL, &m->info, &e) < 0) {
		log_error("%s", e.text);
		return;
	}
	read_pressure(m, now);
	read_taken(m);
	m->measure.total = m->info.total;
	m->measure.free = m->info.free;
	/* memory that a process just gave back is available, wherever the kernel keeps it; a device
	 * that sees MemFree only gets it as it gets the cache, by hearth-dropcaches */
	percpu = meminfo_percpu(NULL);
	m->measure.available = m->info.available + percpu;
	m->measure.droppable = meminfo_droppable(&m->info) + percpu;
	m->measure.psi = m->psi;
	broker_measure(m->broker, &m->measure, now);
}

size_t memory_holders(struct memory *m, struct broker_holder *ret, size_t n)
{
	int ours[BROKER_MAX_CLAIMS + 1];
	size_t n_ours = 0;

	ours[n_ours++] = (int)getpid();
	for (size_t i = 0; broker_at(m->broker, i); i++)
		if (broker_at(m->broker, i)->state == CLAIM_LEASED)
			ours[n_ours++] = broker_at(m->broker, i)->pid;
	return holders_read(NULL, m->nvml, ours, n_ours, LEAST_HOLDER, ret, n);
}
