/* device_test.cu - the CUDA back end through its step calls: exactness by digests, in every format; what a
 * plan may not ask for.  Results: device_results_test.cu.
 *
 * Exits 77 without a GPU; --few: fewer steps, for the sanitizers. */
#include <errno.h>

#include <functional>

#include "tests/gpu/device_cases.h"

static void cuts(struct cuda_device *d)
{
	const struct sampling p = sampled(5);
	std::vector<struct run_result> r;
	bool ok = true, blocks = true;
	std::vector<std::vector<char>> kept;

	for (ids c : { ids{}, ids{ 64 }, ids{ 64, 128, 192 }, ids{ 256 }, ids{ 320, 384 } }) {
		if (few && r.size() == 2)
			break;
		struct sequence s = sequence_new(3, (uint32_t)kept.size(), random_ids(few ? 150 : 400, 1));
		std::vector<char> kv;

		begin(d, &s, &p);
		r.push_back(prefill(d, &s, c));
		for (uint32_t b = 0; b < s.tokens.size() / STEP_GRID; b++) {
			kv.resize(kv.size() + cuda_block_bytes(d));
			cuda_block_save(d, s.blocks[b], kv.data() + kv.size() - cuda_block_bytes(d));
		}
		kept.push_back(kv);
		ok &= same(r[0].digest, r.back().digest, false) && r[0].token == r.back().token;
		blocks &= kept[0] == kv;
	}
	claim("a prompt cut into steps in five ways gives the same bits and the same sample", ok);
	claim("and the same KV in all full blocks", blocks);
}

static void neighbours(struct cuda_device *d)
{
	const uint32_t tokens = few ? 3 : 40;
	std::vector<struct run_result> alone;
	std::vector<struct sequence> others;
	bool ok = true;

	for (int crowd = 0; crowd < 2; crowd++) {
		struct sequence s = sequence_new(1, 0, random_ids(70, 2));
		const struct sampling p = sampled(9);

		begin(d, &s, &p);
		prefill(d, &s, {});
		if (!crowd) {
			alone = decode(d, &s, (int)tokens);
			continue;
		}
		for (uint32_t i = 0; i < 20; i++) {
			others.push_back(sequence_new(2 + i, 8 * (i + 1), random_ids(1 + 13 * (i % 5), 100 + i)));
			begin(d, &others[i], &p);
		}
		for (uint32_t t = 0; t < tokens; t++) {
			std::vector<struct plan_run> runs;
			std::vector<struct run_result> r;
			uint32_t mine = t % 7;

			for (uint32_t i = 0; i < (t * 5) % 21; i++) {
				struct sequence *o = &others[i];
				bool fresh = o->pos < o->tokens.size() && !o->pos;

				runs.push_back(run_of(o, fresh ? ROW_PREFILL : ROW_DECODE,
						      fresh ? (uint32_t)o->tokens.size() : 1, true));
			}
			mine = std::min(mine, (uint32_t)runs.size());
			runs.insert(runs.begin() + mine, run_of(&s, ROW_DECODE, 1, true));
			r = step(d, runs);
			ok &= same(r[mine].digest, alone[t].digest, true) && r[mine].token == alone[t].token;
			s.pos++;
			s.tokens.push_back(r[mine].token);
			for (uint32_t i = 0; i + 1 < runs.size(); i++) {
				uint32_t at = i + (i >= mine);

				others[i].pos += runs[at].n;
				others[i].tokens.push_back(r[at].token);
			}
		}
	}
	claim("sampled tokens alone and among 0 to 20 others: hidden, logits, KV, state, token bit-equal", ok);
}

/* An answer goes on between the parts of prompts; every other prompt is given up after its first. */
static void parts(struct cuda_device *d, uint32_t n_layers)
{
	const struct sampling p = sampled(21);
	struct sequence s = sequence_new(1, 0, random_ids(70, 31)), whole = sequence_new(9, 60, random_ids(400, 32));
	std::vector<struct run_result> alone, r;
	struct run_result want;
	bool answers = true, prompts = true, quiet = true;
	uint32_t t = 0;
	/* part 0 .. end - 1 of the next n rows of o, each with a token of s */
	auto take = [&](struct sequence *o, uint32_t n, uint32_t n_parts, uint32_t end) {
		const bool last = o->pos + n == o->tokens.size();

		for (uint32_t part = 0; part < end; part++, t++) {
			r = step(d, { run_of(&s, ROW_DECODE, 1, true), run_of(o, ROW_PREFILL, n, last) }, part, n_parts);
			answers &= same(r[0].digest, alone[t].digest, true) && r[0].token == alone[t].token;
			quiet &= r[1].sampled == (part + 1 == n_parts && last);
			s.pos++;
			s.tokens.push_back(r[0].token);
		}
		o->pos += n;
	};

	begin(d, &s, &p);
	prefill(d, &s, {});
	alone = decode(d, &s, few ? 1 + 2 * (int)n_layers : 200);
	begin(d, &whole, &p);
	want = prefill(d, &whole, { 192 });
	s = sequence_new(1, 0, random_ids(70, 31));
	begin(d, &s, &p);
	prefill(d, &s, {});
	for (uint32_t round = 0; round < (few ? 1 : 8); round++) {
		const uint32_t n_parts = 2 + round % (n_layers - 1);
		struct sequence up = sequence_new(2, 100, random_ids(300, 33)), o = sequence_new(3, 60, random_ids(400, 32));

		begin(d, &up, &p);
		take(&up, 256, 2 + round % 2, 1);
		begin(d, &o, &p);
		take(&o, 192, n_parts, n_parts);
		take(&o, 208, n_layers, n_layers);
		prompts &= same(r[1].digest, want.digest, true) && r[1].token == want.token;
	}
	claim("a prompt in parts has the bits and the sample of a whole one", prompts);
	claim("and the answer between them its own", answers);
	claim("only the last part samples", quiet);
}

static void replay(struct cuda_device *d)
{
	const struct sampling p = sampled(11);
	const uint32_t n_replayed = few ? 4 : 30;
	bool ok = true;

	for (uint32_t cut : few ? ids{ 3 } : ids{ 30, 1, 17 }) {
		struct sequence a = sequence_new(4, 0, random_ids(90, 3)), b;
		std::vector<struct run_result> r;
		struct run_result last = {};

		begin(d, &a, &p);
		prefill(d, &a, {});
		r = decode(d, &a, (int)n_replayed + 1);
		b = sequence_new(5, 100, random_ids(90, 3));
		begin(d, &b, &p);
		prefill(d, &b, {});
		b.tokens = a.tokens;
		for (uint32_t left = n_replayed; left;) {
			uint32_t n = std::min(left, cut);
			struct plan_run run = run_of(&b, ROW_REPLAY, n, false);

			/* the first was counted when it was sampled; the others are known, not sampled */
			last = step(d, { run })[0];
			b.pos += n;
			left -= n;
		}
		ok &= same(last.digest, r[n_replayed - 1].digest, false);
	}
	claim("tokens replayed in runs of several lengths give the bits of as many decode steps", ok);
}

/* Fail-over: another slot begins with the same prompt, replays with `count`, goes on sampling. */
static void failover(struct cuda_device *d)
{
	const struct sampling p = sampled(13);
	struct sequence a = sequence_new(4, 0, random_ids(130, 4)), b = sequence_new(6, 90, random_ids(130, 4));
	std::vector<struct run_result> r, more;
	struct plan_run run;
	bool ok = true;

	begin(d, &a, &p);
	prefill(d, &a, {});
	r = decode(d, &a, 40);
	/* a.tokens: prompt, 41 samples. b prefills without sampling and replays 20 of them. */
	begin(d, &b, &p);
	step(d, { run_of(&b, ROW_PREFILL, 130, false) });
	b.pos = 130;
	b.tokens = a.tokens;
	run = run_of(&b, ROW_REPLAY, 20, false);
	run.count = true;
	step(d, { run });
	b.pos += 20;
	/* the 21st output is known but not in the state: decode it, as the dead worker would have */
	b.tokens.resize(151);
	run = run_of(&b, ROW_REPLAY, 1, true);
	run.count = true;
	more.push_back(step(d, { run })[0]);
	b.pos++;
	b.tokens.push_back(more[0].token);
	for (auto &x : decode(d, &b, 19))
		more.push_back(x);
	for (size_t i = 0; i < more.size(); i++)
		ok &= more[i].token == r[20 + i].token && same(more[i].digest, r[20 + i].digest, true);
	claim("a sampled answer with penalties continues on another slot after a replay as if nothing had happened", ok);
}

/* Submits one more decode step whose token the host does not know. */
static int ahead(struct cuda_device *d, struct sequence *s)
{
	struct plan_run run = run_of(s, ROW_DECODE, 1, true);
	const struct plan plan = { &run, 1, 0, 0 };
	int rc;

	run.input = IN_LAST_SAMPLE;
	run.tokens = NULL;
	rc = cuda_device_submit(d, &plan);
	s->pos += rc == 0;
	return rc;
}

static void pipeline(struct cuda_device *d)
{
	const struct sampling p = sampled(17);
	const uint32_t tokens = few ? 3 : 30;
	struct sequence a = sequence_new(7, 0, random_ids(66, 5)), b = sequence_new(8, 20, random_ids(66, 5));
	std::vector<struct run_result> want;
	struct run_result got;
	bool ok = true;

	begin(d, &a, &p);
	prefill(d, &a, {});
	want = decode(d, &a, (int)tokens);
	begin(d, &b, &p);
	prefill(d, &b, {});
	ok &= ahead(d, &b) == 0;
	for (uint32_t t = 0; t < tokens; t++) {
		if (t + 1 < tokens)
			ok &= ahead(d, &b) == 0;
		if (!t)
			claim("a third step in flight is refused with -EAGAIN", ahead(d, &b) == -EAGAIN);
		ok &= cuda_device_collect(d, &got, 1) == 1 && got.token == want[t].token;
	}
	ok &= cuda_device_collect(d, &got, 1) == -ENOENT;
	claim("a step ahead, the last sample fed back on the device: the same tokens", ok);
}

static void no_step(struct cuda_device *d, struct plan_run run, const char *name)
{
	const struct plan plan = { &run, 1, 0, 0 };

	claim(name, cuda_device_submit(d, &plan) == -EINVAL);
}

static void restore(struct cuda_device *d)
{
	const struct sampling p = sampled(19);
	struct sequence a = sequence_new(9, 0, random_ids(150, 6)), b = sequence_new(10, 60, random_ids(150, 6));
	std::vector<char> state(cuda_state_bytes(d)), kv(2 * cuda_block_bytes(d));
	std::vector<struct run_result> x, y;
	struct run_result prompt, again;
	const int tokens = few ? 2 : 10;
	bool ok;

	begin(d, &a, &p);
	step(d, { run_of(&a, ROW_PREFILL, 128, false) });
	a.pos = 128;
	ok = !cuda_state_save(d, a.slot, state.data());
	for (int i = 0; i < 2; i++)
		ok &= !cuda_block_save(d, a.blocks[(size_t)i], kv.data() + (size_t)i * cuda_block_bytes(d));
	prefill(d, &a, {});
	x = decode(d, &a, tokens);
	decode(d, &a, 1);	/* 161 positions, or 153 */
	claim("a state is not saved where tokens are kept beside it", cuda_state_save(d, a.slot, state.data()) == -EINVAL);
	begin(d, &b, &p);
	ok &= !cuda_state_restore(d, b.slot, state.data());
	for (int i = 0; i < 2; i++)
		ok &= !cuda_block_restore(d, b.blocks[(size_t)i], kv.data() + (size_t)i * cuda_block_bytes(d));
	b.pos = 128;
	prompt = prefill(d, &b, {});
	y = decode(d, &b, tokens);
	for (size_t i = 0; i < x.size(); i++)
		ok &= same(x[i].digest, y[i].digest, true) && x[i].token == y[i].token;
	/* Once more, where tokens are beside the state that is replaced.  What is sampled may differ now: the slot has
	 * counted an answer's tokens. */
	decode(d, &b, 1);
	b.pos = 128;
	b.tokens.resize(150);
	no_step(d, run_of(&b, ROW_PREFILL, 22, true), "a prompt where tokens are beside the state is refused");
	no_step(d, run_of(&b, ROW_REPLAY, 1, false), "and an answer in another period than theirs");
	ok &= !cuda_state_restore(d, b.slot, state.data());
	again = prefill(d, &b, {});
	b.tokens.back() = a.tokens[150];
	y = decode(d, &b, 1);
	ok &= same(prompt.digest, again.digest, false) && same(x[0].digest, y[0].digest, false);
	claim("a state and its blocks saved at 128 and restored into another slot continue with the same bits", ok);
}

static void refused(struct cuda_device *d)
{
	struct sequence s = sequence_new(11, 0, random_ids(100, 7));
	const struct sampling p = GREEDY;
	struct plan_run good = run_of(&s, ROW_PREFILL, 100, true);
	struct sampling bad = GREEDY;
	bool ok = true;
	auto no = [&](int want, const std::function<void(struct plan_run &)> &change) {
		struct plan_run r = good;
		const struct plan plan = { &r, 1, 0, 0 };

		change(r);
		ok &= cuda_device_submit(d, &plan) == want;
	};

	begin(d, &s, &p);
	no(-EINVAL, [](struct plan_run &r) { r.slot = 24; });
	no(-EINVAL, [](struct plan_run &r) { r.n = 0; });
	no(-EINVAL, [](struct plan_run &r) { r.n_blocks = 1; });
	no(-EINVAL, [](struct plan_run &r) { r.pos = 1; });
	no(-EINVAL, [](struct plan_run &r) { r.pos = 0xffffffc0u; });
	no(-EINVAL, [](struct plan_run &r) { r.kind = ROW_DECODE; });
	no(-EINVAL, [](struct plan_run &r) { r.input = IN_LAST_SAMPLE; });
	no(-EINVAL, [](struct plan_run &r) { r.count = true; });
	no(-ENOTSUP, [](struct plan_run &r) { r.draft = true; });
	struct plan_run twice[2] = { good, good };
	const struct plan plan = { twice, 2, 0, 0 };
	ok &= cuda_device_submit(d, &plan) == -EINVAL;
	bad.top_p = 0;
	ok &= cuda_slot_begin(d, 0, &bad, NULL, 0) == -EINVAL;
	ok &= cuda_device_collect(d, NULL, 0) == -ENOENT;
	claim("plans and parameters that break a rule are refused, and nothing runs", ok);
}
/* All that holds in every format. */
static void exact(const struct model *m)
{
	struct cuda_device *d = opened(m, true);

	neighbours(d);
	if (!few) {
		cuts(d);
		parts(d, m->shape.n_layers);
		replay(d);
	}
	cuda_device_close(d);
}

/* The formats of a published checkpoint. */
static void quantised(enum dummy_recipe recipe)
{
	struct model m;

	printf("formats as in %s\n", dummy_recipe_name(recipe));
	model_fill(&m, 1);
	model_quantise(&m, recipe);
	exact(&m);
}

/* Keys and values in FP8; the memory is what was said. */
static void narrow_kv(const struct model *m)
{
	/* a layer of attention with one head: a key and a value, each 256 codes and a power */
	const size_t block = 2 * STEP_GRID * 257;
	struct device_budget budget;
	struct cuda_device *d;

	printf("keys and values in FP8\n");
	kv_now = KV_FP8;
	exact(m);
	d = opened(m, true);
	cuda_device_budget(d, NULL, &budget);
	claim("an FP8 block has the bytes it should, and so has the budget",
	      cuda_block_bytes(d) == block && budget.kv == limits_of(true).n_blocks * block);
	claim("FP8 is said in the numeric class", strstr(cuda_device_numeric_text(d), " kv=fp8") != NULL);
	if (!few)
		failover(d);
	restore(d);
	cuda_device_close(d);
	d = opened(m, false);
	pipeline(d);
	cuda_device_close(d);
	kv_now = KV_BF16;
}

int main(int argc, char **argv)
{
	struct cuda_device *d;
	struct model m;

	if (!have_gpu())
		return 77;
	few = asked(argc, argv, "--few");
	model_fill(&m, 1);
	exact(&m);
	d = opened(&m, true);
	if (few) {
		cuts(d);
		parts(d, m.shape.n_layers);
		replay(d);
	} else {
		failover(d);
	}
	restore(d);
	refused(d);
	cuda_device_close(d);
	d = opened(&m, false);
	pipeline(d);
	cuda_device_close(d);
	narrow_kv(&m);
	for (enum dummy_recipe r : { DUMMY_NVFP4_FP8, DUMMY_FP8, DUMMY_NVFP4 })
		if (!few || r == DUMMY_NVFP4_FP8)
			quantised(r);
	claim("no CUDA error is left behind", cudaGetLastError() == cudaSuccess);
	return n_failed != 0;
}
