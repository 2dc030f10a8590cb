#ifndef KVASIR_CUDA_DRIVER_H
#define KVASIR_CUDA_DRIVER_H
#include <stddef.h>

// The driver's functions that are used, resolved by name. Prototypes are ours:
// CUresult is an int, CUdevice an int, and sizes are size_t.
typedef struct {
	int (*init)(unsigned int);
	int (*version)(int *);
	int (*error_name)(int, const char **);
	int (*device_count)(int *);
	int (*device_get)(int *, int);
	int (*device_name)(char *, int, int);
	int (*device_memory)(size_t *, int);
	int (*device_attribute)(int *, int, int);
} kv_driver;

// kv_open fills d from libcuda. It returns NULL, or what was missing.
const char *kv_open(kv_driver *d);

int kv_init(kv_driver *d);
int kv_version(kv_driver *d, int *v);
const char *kv_error_name(kv_driver *d, int err);
int kv_device_count(kv_driver *d, int *n);
int kv_device(kv_driver *d, int ordinal, char *name, int name_len, size_t *memory, int *major, int *minor);
#endif
