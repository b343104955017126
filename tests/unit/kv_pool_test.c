/* kv_pool_test.c - claims about worker/kv_pool.h. */
#include <errno.h>

#include "tests/unit/unit.h"
#include "worker/kv_pool.h"

TEST(take_is_all_or_none)
{
	struct kv_pool *p;
	kv_block b[4] = { 9, 9, 9, 9 };

	OK(kv_pool_new(3, &p));
	EQ(kv_pool_take(p, 4, b), -ENOSPC);
	EQ(kv_pool_n_free(p), 3);
	EQ(b[0], 9);	/* the refused take changed nothing */
	OK(kv_pool_take(p, 3, b));
	EQ(kv_pool_n_free(p), 0);
	kv_pool_check(p);
	OK(kv_pool_take(p, 0, b));
	kv_pool_free(p);
}

TEST(blocks_taken_are_different_and_in_range)
{
	struct kv_pool *p;
	kv_block b[64];
	uint64_t seen = 0;

	OK(kv_pool_new(64, &p));
	OK(kv_pool_take(p, 64, b));
	for (int i = 0; i < 64; i++) {
		assert_true(b[i] < 64);
		seen |= UINT64_C(1) << b[i];
	}
	assert_true(seen == UINT64_MAX);
	kv_pool_free(p);
}

TEST(shared_block_outlives_its_first_holder)
{
	struct kv_pool *p;
	kv_block b, c;

	OK(kv_pool_new(1, &p));
	OK(kv_pool_take(p, 1, &b));
	kv_pool_share(p, b);
	EQ(kv_pool_holders(p, b), 2);
	kv_pool_drop(p, b);
	EQ(kv_pool_take(p, 1, &c), -ENOSPC);
	kv_pool_check(p);
	kv_pool_drop(p, b);
	OK(kv_pool_take(p, 1, &c));
	EQ(c, b);
	kv_pool_free(p);
}

TEST(an_empty_pool_is_refused)
{
	struct kv_pool *p;

	EQ(kv_pool_new(0, &p), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(take_is_all_or_none),
		cmocka_unit_test(blocks_taken_are_different_and_in_range),
		cmocka_unit_test(shared_block_outlives_its_first_holder),
		cmocka_unit_test(an_empty_pool_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
