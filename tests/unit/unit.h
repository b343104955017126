/* unit.h - what every cmocka test begins with. */
#ifndef HEARTH_TESTS_UNIT_H
#define HEARTH_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define TEST(name) static void name(void **state_ __attribute__((unused)))
#define OK(call)   assert_int_equal((call), 0)
#define EQ(a, b)   assert_int_equal((a), (b))

#endif
