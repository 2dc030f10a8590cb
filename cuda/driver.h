#ifndef KVASIR_CUDA_DRIVER_H
#define KVASIR_CUDA_DRIVER_H
#include <stddef.h>
#include <stdint.h>

// The driver's functions that are used, resolved by name. Prototypes and
// structures are ours: CUresult, CUdevice and enums are ints, addresses are
// uint64_t, contexts, streams, events, modules and functions are void *.

typedef struct { int type, id; } kv_location;

typedef struct { // CUmemcpyAttributes
	int order;
	kv_location src, dst;
	unsigned flags;
} kv_copy_attributes;

typedef struct { // CUDA_MEMCPY2D_v2
	size_t src_x, src_y;
	int src_type;
	const void *src_host;
	uint64_t src_device;
	void *src_array;
	size_t src_pitch, dst_x, dst_y;
	int dst_type;
	void *dst_host;
	uint64_t dst_device;
	void *dst_array;
	size_t dst_pitch, width, height;
} kv_copy_2d;

typedef struct { // CUmemAllocationProp
	int type, handle_types;
	kv_location location;
	void *win32;
	struct { unsigned char compression, rdma; unsigned short usage; unsigned char reserved[4]; } flags;
} kv_alloc_prop;

typedef struct { kv_location location; int flags; } kv_access; // CUmemAccessDesc
typedef struct { char bytes[64]; } kv_ipc_handle;              // CUipcMemHandle

typedef struct {
	int (*init)(unsigned);
	int (*version)(int *);
	int (*error_name)(int, const char **);
	int (*device_count)(int *);
	int (*device_get)(int *, int);
	int (*device_name)(char *, int, int);
	int (*device_memory)(size_t *, int);
	int (*device_attribute)(int *, int, int);
	int (*device_pci)(char *, int, int);
	int (*get_proc)(const char *, void **, int, uint64_t, int *);

	int (*ctx_retain)(void **, int);
	int (*ctx_release)(int);
	int (*ctx_reset)(int);
	int (*ctx_set)(void *);
	int (*mem_info)(size_t *, size_t *);
	int (*mem_alloc)(uint64_t *, size_t);
	int (*mem_free)(uint64_t);
	int (*address_range)(uint64_t *, size_t *, uint64_t);
	int (*host_register)(void *, size_t, unsigned);
	int (*host_unregister)(void *);

	int (*stream_create)(void **, unsigned);
	int (*stream_destroy)(void *);
	int (*stream_sync)(void *);
	int (*stream_wait64)(void *, uint64_t, uint64_t, unsigned);  // NULL before CUDA 11.7
	int (*stream_write64)(void *, uint64_t, uint64_t, unsigned); // likewise
	int (*event_create)(void **, unsigned);
	int (*event_destroy)(void *);
	int (*event_record)(void *, void *);
	int (*event_query)(void *);

	int (*copy)(uint64_t, uint64_t, size_t, void *);
	int (*copy_2d)(const kv_copy_2d *, void *);
	// The header of CUDA 13 gives the name of the first to the second. Both are
	// asked for by version; NULL where the driver is older.
	int (*batch_12_8)(uint64_t *, uint64_t *, size_t *, size_t, kv_copy_attributes *, size_t *, size_t, size_t *, void *);
	int (*batch_13_0)(uint64_t *, uint64_t *, size_t *, size_t, kv_copy_attributes *, size_t *, size_t, void *);

	int (*ipc_get)(kv_ipc_handle *, uint64_t);
	int (*ipc_open)(uint64_t *, kv_ipc_handle, unsigned);
	int (*ipc_close)(uint64_t);
	int (*vmm_granularity)(size_t *, const kv_alloc_prop *, int);
	int (*vmm_create)(uint64_t *, size_t, const kv_alloc_prop *, uint64_t);
	int (*vmm_release)(uint64_t);
	int (*vmm_reserve)(uint64_t *, size_t, size_t, uint64_t, uint64_t);
	int (*vmm_unreserve)(uint64_t, size_t);
	int (*vmm_map)(uint64_t, size_t, size_t, uint64_t, uint64_t);
	int (*vmm_unmap)(uint64_t, size_t);
	int (*vmm_access)(uint64_t, size_t, const kv_access *, size_t);
	int (*vmm_retain)(uint64_t *, void *);
	int (*vmm_export)(void *, uint64_t, int, uint64_t);
	int (*vmm_import)(uint64_t *, void *, int);

	int (*module_load)(void **, const void *);
	int (*module_unload)(void *);
	int (*module_function)(void **, void *, const char *);
	int (*launch)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);
} kv_driver;

// How plain copies are submitted.
enum { KV_BATCH_13_0, KV_BATCH_12_8, KV_LOOP };

// KV_NOT_READY is the driver's CUDA_ERROR_NOT_READY; kv_event_wait returns it
// when time is up.
enum { KV_NOT_READY = 600 };

typedef struct { uint64_t dst, src, width, rows, dst_pitch, src_pitch; } kv_rect;

// kv_open fills d from libcuda. It returns NULL, or what was missing.
const char *kv_open(kv_driver *d);

int kv_init(kv_driver *d);
int kv_version(kv_driver *d, int *v);
const char *kv_error_name(kv_driver *d, int err);
int kv_device_count(kv_driver *d, int *n);
int kv_device(kv_driver *d, int ordinal, char *name, int name_len, char *pci, int pci_len, size_t *memory, int *major, int *minor);
// kv_resolve looks up the entry points that go by version.
void kv_resolve(kv_driver *d);

int kv_ctx_retain(kv_driver *d, int ordinal, int *dev, void **ctx);
int kv_ctx_release(kv_driver *d, int dev);
int kv_ctx_reset(kv_driver *d, int dev);

// All functions below make ctx current on the calling thread first. Goroutines
// wander between threads, and a driver call from a thread without a context
// fails, so no call may rely on what an earlier one left behind.

int kv_mem_info(kv_driver *d, void *ctx, size_t *free, size_t *total);
int kv_mem_alloc(kv_driver *d, void *ctx, size_t n, uint64_t *p);
int kv_mem_free(kv_driver *d, void *ctx, uint64_t p);
int kv_address_range(kv_driver *d, void *ctx, uint64_t p, uint64_t *base, size_t *n);
int kv_host_register(kv_driver *d, void *ctx, void *p, size_t n);
int kv_host_unregister(kv_driver *d, void *ctx, void *p);

int kv_stream_create(kv_driver *d, void *ctx, void **stream);
int kv_stream_destroy(kv_driver *d, void *ctx, void *stream);
int kv_stream_sync(kv_driver *d, void *ctx, void *stream);
int kv_stream_wait64(kv_driver *d, void *ctx, void *stream, uint64_t addr, uint64_t value);
int kv_stream_write64(kv_driver *d, void *ctx, void *stream, uint64_t addr, uint64_t value);
int kv_event_create(kv_driver *d, void *ctx, void **event);
int kv_event_destroy(kv_driver *d, void *ctx, void *event);

// kv_submit queues on the stream: if wait_addr is not 0, a wait until the
// counter there is at least wait_value; the plain copies; the rectangles; the
// event.
int kv_submit(kv_driver *d, void *ctx, void *stream, void *event, int method,
	uint64_t wait_addr, uint64_t wait_value,
	uint64_t *dst, uint64_t *src, size_t *n, size_t count, const kv_rect *rects, size_t rect_count);

// kv_event_wait sleeps for the given time, then looks at the event, with naps,
// until it has happened or limit_ns have passed in all. It looks at least once.
int kv_event_wait(kv_driver *d, void *ctx, void *event, int64_t sleep_ns, int64_t limit_ns);

int kv_ipc_get(kv_driver *d, void *ctx, uint64_t p, void *handle);
int kv_ipc_open(kv_driver *d, void *ctx, const void *handle, uint64_t *p);
int kv_ipc_close(kv_driver *d, void *ctx, uint64_t p);
int kv_vmm_granularity(kv_driver *d, void *ctx, int dev, size_t *n);
int kv_vmm_create(kv_driver *d, void *ctx, int dev, size_t n, int shareable, uint64_t *handle);
int kv_vmm_release(kv_driver *d, void *ctx, uint64_t handle);
int kv_vmm_reserve(kv_driver *d, void *ctx, size_t n, uint64_t *p);
int kv_vmm_unreserve(kv_driver *d, void *ctx, uint64_t p, size_t n);
int kv_vmm_map(kv_driver *d, void *ctx, int dev, uint64_t p, size_t n, uint64_t handle);
int kv_vmm_unmap(kv_driver *d, void *ctx, uint64_t p, size_t n);
int kv_vmm_retain(kv_driver *d, void *ctx, uint64_t p, uint64_t *handle);
int kv_vmm_export(kv_driver *d, void *ctx, uint64_t handle, int *fd);
int kv_vmm_import(kv_driver *d, void *ctx, int fd, uint64_t *handle);

int kv_module_load(kv_driver *d, void *ctx, const char *ptx, void **module);
int kv_module_unload(kv_driver *d, void *ctx, void *module);
int kv_module_function(kv_driver *d, void *ctx, void *module, const char *name, void **fn);
int kv_launch(kv_driver *d, void *ctx, void *fn, unsigned blocks, unsigned threads, void *stream, uint64_t *args, int nargs);
#endif
