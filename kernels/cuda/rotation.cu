/* rotation.cu - the tables of cosines and sines by position, made on the host. */
#include <math.h>
#include <string.h>

#include <algorithm>

#include "kernels/cuda/device_int.h"

size_t rotation_bytes(const struct cuda_device *d)
{
	return (size_t)d->limits.max_context * (d->m.rotary_dim / 2) * 2;
}

/* Frequencies of pairs, with YaRN's blend (Peng, Quesnelle, Fan, Shippole, "YaRN", 2023, section
 * 3.2; beta 32 and 1). */
static std::vector<double> rotary_frequencies(const struct model_shape *m)
{
	const double two_pi = 6.283185307179586, dim = m->rotary_dim, original = m->yarn_original;
	std::vector<double> f(m->rotary_dim / 2);
	double low = 0, high = 0;

	if (m->yarn_factor > 1) {
		low = std::max(
			0.0, floor(dim * log(original / (32 * two_pi)) / (2 * log(m->rope_theta))));
		high = std::min(dim - 1,
				ceil(dim * log(original / two_pi) / (2 * log(m->rope_theta))));
		high = high == low ? low + 0.001 : high;
	}
	for (size_t i = 0; i < f.size(); i++) {
		double plain = pow(m->rope_theta, -2.0 * (double)i / dim), ramp;

		ramp = std::min(1.0, std::max(0.0, ((double)i - low) / (high - low)));
		f[i] = m->yarn_factor > 1 ? plain / m->yarn_factor * ramp + plain * (1 - ramp) :
					    plain;
	}
	return f;
}

static uint16_t round_bf16(double x)
{
	float f = (float)x;
	uint32_t bits;

	memcpy(&bits, &f, 4);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

int rotation_load(struct cuda_device *d)
{
	const std::vector<double> f = rotary_frequencies(&d->m);
	const double factor = d->m.yarn_factor > 1 ? d->m.yarn_attention_factor : 1;
	std::vector<uint16_t> c(rotation_bytes(d) / 2), s(c.size());

	for (uint32_t pos = 0; pos < d->limits.max_context; pos++)
		for (size_t i = 0; i < f.size(); i++) {
			c[pos * f.size() + i] = round_bf16(cos(pos * f[i]) * factor);
			s[pos * f.size() + i] = round_bf16(sin(pos * f[i]) * factor);
		}
	if (c.empty())
		return 0;
	return device_code(d, cudaMemcpy(d->cos, c.data(), c.size() * 2, cudaMemcpyHostToDevice)) ?:
	       device_code(d, cudaMemcpy(d->sin, s.data(), s.size() * 2, cudaMemcpyHostToDevice));
}
