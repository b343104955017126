/* stacked.h - packed matrices side by side where a device's memory is the host's, and what their rows leave.  Behind
 * memory.h. */
#ifndef HEARTH_TESTS_EMU_STACKED_H
#define HEARTH_TESTS_EMU_STACKED_H

#include "tests/gpu/matmul_cases.h"

/* Matrices of one shape, packed side by side. */
struct stacked {
	std::vector<struct matrix> one;
	array<uint8_t> packed;
	array<float> scale;

	stacked(enum matmul_format f, uint32_t count, uint32_t n, uint32_t k)
		: one(count), packed(count * matmul_packed_bytes(f, n, k)), scale(count * ((n + 15) / 16 * 16))
	{
		size_t at = 0, s = 0;

		for (struct matrix &m : one) {
			matrix_make(&m, f, n, k);
			memcpy(&packed.h[at], m.packed.data(), m.packed.size());
			memcpy(&scale.h[s], m.row_scale.data(), m.row_scale.size() * 4);
			at += m.packed.size();
			s += (n + 15) / 16 * 16;
		}
		packed.up();
		scale.up();
	}
};

static double dot(const struct matrix &m, uint32_t row, const uint16_t *x, double *magnitude)
{
	double sum, size;

	ref_matmul_dot(&m.ref, row, x, &sum, &size);
	*magnitude = size * fabs(m.scale(row));
	return sum * m.scale(row);
}

#endif
