#include "driver.h"
#include <dlfcn.h>

// Values of CUdevice_attribute.
enum { COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76 };

const char *kv_open(kv_driver *d) {
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return dlerror();
	struct { void **fn; const char *name; } symbols[] = {
		{(void **)&d->init, "cuInit"},
		{(void **)&d->version, "cuDriverGetVersion"},
		{(void **)&d->error_name, "cuGetErrorName"},
		{(void **)&d->device_count, "cuDeviceGetCount"},
		{(void **)&d->device_get, "cuDeviceGet"},
		{(void **)&d->device_name, "cuDeviceGetName"},
		{(void **)&d->device_memory, "cuDeviceTotalMem_v2"},
		{(void **)&d->device_attribute, "cuDeviceGetAttribute"},
	};
	for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
		if (!(*symbols[i].fn = dlsym(lib, symbols[i].name)))
			return symbols[i].name;
	return NULL;
}

int kv_init(kv_driver *d) { return d->init(0); }
int kv_version(kv_driver *d, int *v) { return d->version(v); }
int kv_device_count(kv_driver *d, int *n) { return d->device_count(n); }

const char *kv_error_name(kv_driver *d, int err) {
	const char *name = NULL;
	d->error_name(err, &name);
	return name;
}

int kv_device(kv_driver *d, int ordinal, char *name, int name_len, size_t *memory, int *major, int *minor) {
	int dev, err;
	if ((err = d->device_get(&dev, ordinal)) || (err = d->device_name(name, name_len, dev)) ||
	    (err = d->device_memory(memory, dev)) ||
	    (err = d->device_attribute(major, COMPUTE_CAPABILITY_MAJOR, dev)) ||
	    (err = d->device_attribute(minor, COMPUTE_CAPABILITY_MINOR, dev)))
		return err;
	return 0;
}
