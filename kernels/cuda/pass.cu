/* pass.cu - a decode pass from embedding to sample: plainly, or as a graph that is made once. */
#include <errno.h>

#include "kernels/cuda/forward_int.h"

int pass_samples(struct cuda_device *d, const struct sample_row *rows, uint32_t n, struct sample_out *out)
{
	struct sample_args a = {};
	int rc;

	if (!n)
		return 0;
	a.rows = rows;
	a.params = d->params;
	a.bias = d->bias;
	a.counts = d->counts;
	a.last_sample = d->last_sample;
	a.logits = d->ws.logits;
	a.keys = d->ws.keys;
	a.out = out;
	a.out_at = &d->ws.meta->out;
	a.n_rows = n;
	a.vocab = d->m.vocab_rows;
	a.n_ids = d->m.n_token_ids;
	rc = sample_rows(&a, d->stream);
	pass_mark(d, CLASS_SAMPLE);
	return rc;
}

/* What happens only now and then, and is kept out of graphs. */
static int extras(struct cuda_device *d, const struct pass *pass)
{
	for (const struct piece &p : pass->pieces) {
		struct count_args c = { d->counts + (size_t)p.slot * d->m.vocab_rows,
					d->ws.meta->token + p.row, p.n, d->m.vocab_rows, 0 };

		if (p.count && d->penalise[p.slot] && sample_count(&c, d->stream))
			return -ENODEV;
		if (p.logits &&
		    cudaMemcpyAsync(p.logits, d->ws.logits + (size_t)p.head * d->m.vocab_rows,
				    (size_t)p.n_head * d->m.vocab_rows * sizeof(float),
				    cudaMemcpyDeviceToHost, d->stream) != cudaSuccess)
			return -ENODEV;
	}
	return 0;
}

static int forward_once(struct cuda_device *d, const struct pass *pass)
{
	int rc = pass_layers(d, pass);

	rc = rc ? rc : pass_head(d, d->ws.h, d->ws.meta->head, pass->n_head);
	rc = rc ? rc : extras(d, pass);
	return rc ? rc : pass_samples(d, d->ws.meta->sample, pass->n_sample, NULL);
}

/* Graphs are few while batches are stable; when they are not, starting over bounds the memory. */
static void graphs_bound(struct cuda_device *d)
{
	if (d->graphs.size() < 64)
		return;
	cudaStreamSynchronize(d->stream);
	for (auto &g : d->graphs)
		cudaGraphExecDestroy(g.second);
	d->graphs.clear();
}

/* A graph is made when a shape of pass comes the first time; only passes of decode rows. */
static int forward_graph(struct cuda_device *d, const struct pass *pass)
{
	const std::vector<uint32_t> key = { pass->n_rows, pass->n_head, pass->n_sample,
					    pass_length_bound(d, pass->max_length) };
	auto at = d->graphs.find(key);
	cudaGraph_t graph = NULL;
	cudaGraphExec_t exec;
	int rc;

	if (at != d->graphs.end())
		return cudaGraphLaunch(at->second, d->stream) == cudaSuccess ? 0 : -ENODEV;
	graphs_bound(d);
	if (cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeRelaxed) != cudaSuccess)
		return -ENODEV;
	rc = pass_layers(d, pass);
	rc = rc ? rc : pass_head(d, d->ws.h, d->ws.meta->head, pass->n_head);
	rc = rc ? rc : pass_samples(d, d->ws.meta->sample, pass->n_sample, NULL);
	if (cudaStreamEndCapture(d->stream, &graph) != cudaSuccess || rc)
		return rc ? rc : -ENODEV;
	if (cudaGraphInstantiate(&exec, graph, 0) != cudaSuccess)
		rc = -ENODEV;
	cudaGraphDestroy(graph);
	if (rc)
		return rc;
	d->graphs[key] = exec;
	d->stats.graphs++;
	return cudaGraphLaunch(exec, d->stream) == cudaSuccess ? 0 : -ENODEV;
}

int pass_forward(struct cuda_device *d, const struct pass *pass)
{
	bool plain = d->profile;

	for (const struct piece &p : pass->pieces)
		plain |= p.n != 1 || p.count || p.logits;
	return plain ? forward_once(d, pass) : forward_graph(d, pass);
}
