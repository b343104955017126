/* launch.cu - what launches ask of the device. */
#include "kernels/cuda/launch.cuh"

/* An attribute of the current device, kept in `at` once it is known; 0 when there is no device. */
static int attribute(enum cudaDeviceAttr which, int *at)
{
	int device;

	if (!*at && (cudaGetDevice(&device) != cudaSuccess ||
		     cudaDeviceGetAttribute(at, which, device) != cudaSuccess))
		*at = 0;
	return *at;
}

int device_sms(void)
{
	static int sms;

	return attribute(cudaDevAttrMultiProcessorCount, &sms);
}

int device_major(void)
{
	static int major;

	return attribute(cudaDevAttrComputeCapabilityMajor, &major);
}
