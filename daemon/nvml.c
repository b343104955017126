/* nvml.c - see nvml.h.  The types below are the library's ABI, written down here so that no
 * header of the driver's is needed to build. */
#include "daemon/nvml.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef void *gpu_handle;

struct memory_v1 {
	unsigned long long total, free, used;
};

struct process_v3 {
	unsigned pid;
	unsigned long long bytes;	/* all ones: not known */
	unsigned gpu_instance, compute_instance;
};

typedef int processes_fn(gpu_handle, unsigned *, struct process_v3 *);

struct nvml {
	void *lib;
	int (*init)(void);
	int (*shutdown)(void);
	int (*driver_version)(char *, unsigned);
	int (*count)(unsigned *);
	int (*handle)(unsigned, gpu_handle *);
	int (*name)(gpu_handle, char *, unsigned);
	int (*memory)(gpu_handle, struct memory_v1 *);
	processes_fn *compute, *graphics;	/* may be NULL: an older driver */
	char driver[80];
	unsigned n;
};

static bool bind(struct nvml *n)
{
	const struct {
		void *to;
		const char *name;
		bool needed;
	} rows[] = {
		{ &n->init, "nvmlInit_v2", true },
		{ &n->shutdown, "nvmlShutdown", true },
		{ &n->driver_version, "nvmlSystemGetDriverVersion", true },
		{ &n->count, "nvmlDeviceGetCount_v2", true },
		{ &n->handle, "nvmlDeviceGetHandleByIndex_v2", true },
		{ &n->name, "nvmlDeviceGetName", true },
		{ &n->memory, "nvmlDeviceGetMemoryInfo", true },
		{ &n->compute, "nvmlDeviceGetComputeRunningProcesses_v3", false },
		{ &n->graphics, "nvmlDeviceGetGraphicsRunningProcesses_v3", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		void *f = dlsym(n->lib, rows[i].name);

		if (!f && rows[i].needed)
			return false;
		memcpy(rows[i].to, &f, sizeof(f));
	}
	return true;
}

struct nvml *nvml_open(void)
{
	struct nvml *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->lib = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!n->lib || !bind(n) || n->init() != 0) {
		if (n->lib)
			dlclose(n->lib);
		free(n);
		return NULL;
	}
	if (n->driver_version(n->driver, sizeof(n->driver) - 1) != 0)
		n->driver[0] = '\0';
	if (n->count(&n->n) != 0)
		n->n = 0;
	if (n->n > NVML_MAX_GPUS)
		n->n = NVML_MAX_GPUS;
	return n;
}

struct nvml *nvml_close(struct nvml *n)
{
	if (!n)
		return NULL;
	n->shutdown();
	dlclose(n->lib);
	free(n);
	return NULL;
}

const char *nvml_driver(const struct nvml *n)
{
	return n ? n->driver : "";
}

unsigned nvml_count(const struct nvml *n)
{
	return n ? n->n : 0;
}

int nvml_read(struct nvml *n, unsigned gpu, struct nvml_gpu *ret)
{
	struct nvml_gpu g = { 0 };
	struct memory_v1 m = { 0 };
	gpu_handle h;

	if (gpu >= nvml_count(n) || n->handle(gpu, &h) != 0)
		return -EIO;
	if (n->name(h, g.name, sizeof(g.name) - 1) != 0)
		strcpy(g.name, "GPU");
	if (n->memory(h, &m) == 0 && m.total) {
		g.own_memory = true;
		g.total = m.total;
		g.free = m.free;
	}
	*ret = g;
	return 0;
}

static size_t list(processes_fn *f, gpu_handle h, unsigned gpu, struct nvml_process *ret,
		   size_t max)
{
	struct process_v3 p[NVML_MAX_PROCESSES];
	unsigned n = NVML_MAX_PROCESSES;

	if (!f || f(h, &n, p) != 0)
		return 0;
	if (n > max)
		n = (unsigned)max;
	for (unsigned i = 0; i < n; i++)
		ret[i] = (struct nvml_process){ (int)p[i].pid, gpu,
						p[i].bytes == ~0ULL ? 0 : p[i].bytes };
	return n;
}

size_t nvml_processes(struct nvml *n, struct nvml_process *ret, size_t max)
{
	size_t found = 0;
	gpu_handle h;

	for (unsigned i = 0; i < nvml_count(n); i++) {
		if (n->handle(i, &h) != 0)
			continue;
		found += list(n->compute, h, i, ret + found, max - found);
		found += list(n->graphics, h, i, ret + found, max - found);
	}
	return found;
}
