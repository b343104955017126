/* gdn_step_emu_test.cc - gdn_step_test on blocks that are fibers (block.h): every form of the kernel, with
 * few heads, warps in turns and in a random order. */
#include "tests/emu/block.h"

#include "kernels/cuda/gdn_step.cu"

#define main static of_the_device
#include "tests/gpu/gdn_step_test.cu"
#undef main
#include "tests/emu/memory.h"

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (uint32_t seed : { 0u, 1u }) {
		printf("warps in %s\n", seed ? "a random order" : "turns");
		emu::seed(seed);
		against_reference(1, 2);
		exactness(1, 2, true);
		emu_sms = 5;	/* most blocks wait for a place */
		many_rows(1, 2, 9);
		many_rows(1, 2, 25);	/* blocks of eight warps */
		many_runs(1, 2);
		emu_sms = 132;
	}
	two_blocks_a_head(17, 34, true);
	in_order(1, 2);
	refuses();
	return n_failed != 0;
}
