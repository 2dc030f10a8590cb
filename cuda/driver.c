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
		{(void **)&d->device_pci, "cuDeviceGetPCIBusId"},
		{(void **)&d->ctx_retain, "cuDevicePrimaryCtxRetain"},
		{(void **)&d->ctx_release, "cuDevicePrimaryCtxRelease_v2"},
		{(void **)&d->ctx_reset, "cuDevicePrimaryCtxReset_v2"},
		{(void **)&d->ctx_set, "cuCtxSetCurrent"},
		{(void **)&d->mem_info, "cuMemGetInfo_v2"},
		{(void **)&d->mem_alloc, "cuMemAlloc_v2"},
		{(void **)&d->mem_free, "cuMemFree_v2"},
		{(void **)&d->address_range, "cuMemGetAddressRange_v2"},
		{(void **)&d->host_register, "cuMemHostRegister_v2"},
		{(void **)&d->host_unregister, "cuMemHostUnregister"},
		{(void **)&d->stream_create, "cuStreamCreate"},
		{(void **)&d->stream_destroy, "cuStreamDestroy_v2"},
		{(void **)&d->stream_sync, "cuStreamSynchronize"},
		{(void **)&d->event_create, "cuEventCreate"},
		{(void **)&d->event_destroy, "cuEventDestroy_v2"},
		{(void **)&d->event_record, "cuEventRecord"},
		{(void **)&d->event_query, "cuEventQuery"},
		{(void **)&d->copy, "cuMemcpyAsync"},
		{(void **)&d->copy_2d, "cuMemcpy2DAsync_v2"},
		{(void **)&d->ipc_get, "cuIpcGetMemHandle"},
		{(void **)&d->ipc_open, "cuIpcOpenMemHandle_v2"},
		{(void **)&d->ipc_close, "cuIpcCloseMemHandle"},
		{(void **)&d->vmm_granularity, "cuMemGetAllocationGranularity"},
		{(void **)&d->vmm_create, "cuMemCreate"},
		{(void **)&d->vmm_release, "cuMemRelease"},
		{(void **)&d->vmm_reserve, "cuMemAddressReserve"},
		{(void **)&d->vmm_unreserve, "cuMemAddressFree"},
		{(void **)&d->vmm_map, "cuMemMap"},
		{(void **)&d->vmm_unmap, "cuMemUnmap"},
		{(void **)&d->vmm_access, "cuMemSetAccess"},
		{(void **)&d->vmm_retain, "cuMemRetainAllocationHandle"},
		{(void **)&d->vmm_export, "cuMemExportToShareableHandle"},
		{(void **)&d->vmm_import, "cuMemImportFromShareableHandle"},
		{(void **)&d->module_load, "cuModuleLoadData"},
		{(void **)&d->module_unload, "cuModuleUnload"},
		{(void **)&d->module_function, "cuModuleGetFunction"},
		{(void **)&d->launch, "cuLaunchKernel"},
	};
	for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
		if (!(*symbols[i].fn = dlsym(lib, symbols[i].name)))
			return symbols[i].name;
	d->get_proc = dlsym(lib, "cuGetProcAddress_v2");
	d->stream_wait64 = dlsym(lib, "cuStreamWaitValue64_v2");
	d->stream_write64 = dlsym(lib, "cuStreamWriteValue64_v2");
	return NULL;
}

void kv_resolve(kv_driver *d) {
	int status;
	if (!d->get_proc)
		return;
	if (d->get_proc("cuMemcpyBatchAsync", (void **)&d->batch_13_0, 13000, 0, &status) || status)
		d->batch_13_0 = NULL;
	if (d->get_proc("cuMemcpyBatchAsync", (void **)&d->batch_12_8, 12080, 0, &status) || status)
		d->batch_12_8 = NULL;
}

int kv_init(kv_driver *d) { return d->init(0); }
int kv_version(kv_driver *d, int *v) { return d->version(v); }
int kv_device_count(kv_driver *d, int *n) { return d->device_count(n); }

const char *kv_error_name(kv_driver *d, int err) {
	const char *name = NULL;
	d->error_name(err, &name);
	return name;
}

int kv_device(kv_driver *d, int ordinal, char *name, int name_len, char *pci, int pci_len, size_t *memory, int *major, int *minor) {
	int dev, err;
	if ((err = d->device_get(&dev, ordinal)) || (err = d->device_name(name, name_len, dev)) ||
	    (err = d->device_pci(pci, pci_len, dev)) || (err = d->device_memory(memory, dev)) ||
	    (err = d->device_attribute(major, COMPUTE_CAPABILITY_MAJOR, dev)) ||
	    (err = d->device_attribute(minor, COMPUTE_CAPABILITY_MINOR, dev)))
		return err;
	return 0;
}

int kv_ctx_retain(kv_driver *d, int ordinal, int *dev, void **ctx) {
	int err = d->device_get(dev, ordinal);
	return err ? err : d->ctx_retain(ctx, *dev);
}

int kv_ctx_release(kv_driver *d, int dev) { return d->ctx_release(dev); }
int kv_ctx_reset(kv_driver *d, int dev) { return d->ctx_reset(dev); }
