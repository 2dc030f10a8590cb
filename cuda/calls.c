// The calls that need a context. IN makes it current on this thread.
#define _GNU_SOURCE
#include "driver.h"
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#define IN(call) do { int in = d->ctx_set(ctx); return in ? in : (call); } while (0)

enum { PINNED = 1, ON_DEVICE = 1, POSIX_FD = 1, READ_WRITE = 3, UNIFIED = 4 };
enum { ORDER_STREAM = 1, NON_BLOCKING = 1, NO_TIMING = 2, AT_LEAST = 0, LAZY_PEER_ACCESS = 1 };
enum { PORTABLE = 1, DEVICE_MAP = 2, NOT_SUPPORTED = 801 };

int kv_mem_info(kv_driver *d, void *ctx, size_t *free, size_t *total) { IN(d->mem_info(free, total)); }
int kv_mem_alloc(kv_driver *d, void *ctx, size_t n, uint64_t *p) { IN(d->mem_alloc(p, n)); }
int kv_mem_free(kv_driver *d, void *ctx, uint64_t p) { IN(d->mem_free(p)); }
int kv_address_range(kv_driver *d, void *ctx, uint64_t p, uint64_t *base, size_t *n) { IN(d->address_range(base, n, p)); }
int kv_host_register(kv_driver *d, void *ctx, void *p, size_t n) { IN(d->host_register(p, n, PORTABLE | DEVICE_MAP)); }
int kv_host_unregister(kv_driver *d, void *ctx, void *p) { IN(d->host_unregister(p)); }
int kv_stream_create(kv_driver *d, void *ctx, void **stream) { IN(d->stream_create(stream, NON_BLOCKING)); }
int kv_stream_destroy(kv_driver *d, void *ctx, void *stream) { IN(d->stream_destroy(stream)); }
int kv_stream_sync(kv_driver *d, void *ctx, void *stream) { IN(d->stream_sync(stream)); }
int kv_event_create(kv_driver *d, void *ctx, void **event) { IN(d->event_create(event, NO_TIMING)); }
int kv_event_destroy(kv_driver *d, void *ctx, void *event) { IN(d->event_destroy(event)); }

int kv_stream_wait64(kv_driver *d, void *ctx, void *stream, uint64_t addr, uint64_t value) {
	IN(d->stream_wait64 ? d->stream_wait64(stream, addr, value, AT_LEAST) : NOT_SUPPORTED);
}

int kv_stream_write64(kv_driver *d, void *ctx, void *stream, uint64_t addr, uint64_t value) {
	IN(d->stream_write64 ? d->stream_write64(stream, addr, value, 0) : NOT_SUPPORTED);
}

static int submit_copies(kv_driver *d, void *stream, int method, uint64_t *dst, uint64_t *src, size_t *n, size_t count) {
	// Sources are read in stream order. For offloads the engine's step must be
	// over first, and for loads no other order is faster.
	kv_copy_attributes attributes = {.order = ORDER_STREAM};
	size_t first = 0, failed = 0;
	int err = 0;
	switch (method) {
	case KV_BATCH_13_0:
		return d->batch_13_0(dst, src, n, count, &attributes, &first, 1, stream);
	case KV_BATCH_12_8:
		return d->batch_12_8(dst, src, n, count, &attributes, &first, 1, &failed, stream);
	}
	for (size_t i = 0; i < count && !err; i++)
		err = d->copy(dst[i], src[i], n[i], stream);
	return err;
}

int kv_submit(kv_driver *d, void *ctx, void *stream, void *event, int method,
	uint64_t wait_addr, uint64_t wait_value,
	uint64_t *dst, uint64_t *src, size_t *n, size_t count, const kv_rect *rects, size_t rect_count) {
	int err = d->ctx_set(ctx);
	if (!err && wait_addr)
		err = d->stream_wait64(stream, wait_addr, wait_value, AT_LEAST);
	if (!err && count)
		err = submit_copies(d, stream, method, dst, src, n, count);
	for (size_t i = 0; i < rect_count && !err; i++) {
		kv_copy_2d c = {
			.src_type = UNIFIED, .src_device = rects[i].src, .src_pitch = rects[i].src_pitch,
			.dst_type = UNIFIED, .dst_device = rects[i].dst, .dst_pitch = rects[i].dst_pitch,
			.width = rects[i].width, .height = rects[i].rows,
		};
		err = d->copy_2d(&c, stream);
	}
	return err ? err : d->event_record(event, stream);
}

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_ns(int64_t ns) {
	// By default the kernel may wake us 50 us late, a third of a large call.
	static __thread int exact;
	if (!exact)
		exact = !prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
	struct timespec t = {ns / 1000000000LL, ns % 1000000000LL};
	nanosleep(&t, NULL);
}

int kv_event_wait(kv_driver *d, void *ctx, void *event, int64_t sleep_first, int64_t limit_ns) {
	const int64_t nap = 20000;
	int err = d->ctx_set(ctx);
	if (err)
		return err;
	int64_t start = now();
	if (sleep_first > 0)
		sleep_ns(sleep_first);
	while ((err = d->event_query(event)) == KV_NOT_READY) {
		if (now() - start > limit_ns)
			break;
		sleep_ns(nap);
	}
	return err;
}

int kv_ipc_get(kv_driver *d, void *ctx, uint64_t p, void *handle) { IN(d->ipc_get(handle, p)); }
int kv_ipc_close(kv_driver *d, void *ctx, uint64_t p) { IN(d->ipc_close(p)); }

int kv_ipc_open(kv_driver *d, void *ctx, const void *handle, uint64_t *p) {
	kv_ipc_handle h;
	memcpy(&h, handle, sizeof h);
	IN(d->ipc_open(p, h, LAZY_PEER_ACCESS));
}

static kv_alloc_prop device_memory(int dev, int shareable) {
	return (kv_alloc_prop){.type = PINNED, .handle_types = shareable ? POSIX_FD : 0, .location = {ON_DEVICE, dev}};
}

int kv_vmm_granularity(kv_driver *d, void *ctx, int dev, size_t *n) {
	kv_alloc_prop prop = device_memory(dev, 1);
	IN(d->vmm_granularity(n, &prop, 0));
}

int kv_vmm_create(kv_driver *d, void *ctx, int dev, size_t n, int shareable, uint64_t *handle) {
	kv_alloc_prop prop = device_memory(dev, shareable);
	IN(d->vmm_create(handle, n, &prop, 0));
}

int kv_vmm_release(kv_driver *d, void *ctx, uint64_t handle) { IN(d->vmm_release(handle)); }
int kv_vmm_reserve(kv_driver *d, void *ctx, size_t n, uint64_t *p) { IN(d->vmm_reserve(p, n, 0, 0, 0)); }
int kv_vmm_unreserve(kv_driver *d, void *ctx, uint64_t p, size_t n) { IN(d->vmm_unreserve(p, n)); }
int kv_vmm_unmap(kv_driver *d, void *ctx, uint64_t p, size_t n) { IN(d->vmm_unmap(p, n)); }
int kv_vmm_retain(kv_driver *d, void *ctx, uint64_t p, uint64_t *handle) { IN(d->vmm_retain(handle, (void *)p)); }
int kv_vmm_export(kv_driver *d, void *ctx, uint64_t handle, int *fd) { IN(d->vmm_export(fd, handle, POSIX_FD, 0)); }
int kv_vmm_import(kv_driver *d, void *ctx, int fd, uint64_t *handle) {
	IN(d->vmm_import(handle, (void *)(intptr_t)fd, POSIX_FD));
}

int kv_vmm_map(kv_driver *d, void *ctx, int dev, uint64_t p, size_t n, uint64_t handle) {
	kv_access access = {{ON_DEVICE, dev}, READ_WRITE};
	int err = d->ctx_set(ctx);
	if (err || (err = d->vmm_map(p, n, 0, handle, 0)))
		return err;
	if ((err = d->vmm_access(p, n, &access, 1)))
		d->vmm_unmap(p, n);
	return err;
}

int kv_module_load(kv_driver *d, void *ctx, const char *ptx, void **module) { IN(d->module_load(module, ptx)); }
int kv_module_unload(kv_driver *d, void *ctx, void *module) { IN(d->module_unload(module)); }
int kv_module_function(kv_driver *d, void *ctx, void *module, const char *name, void **fn) {
	IN(d->module_function(fn, module, name));
}

int kv_launch(kv_driver *d, void *ctx, void *fn, unsigned blocks, unsigned threads, void *stream, uint64_t *args, int nargs) {
	void *params[8];
	for (int i = 0; i < nargs && i < 8; i++)
		params[i] = &args[i];
	IN(d->launch(fn, blocks, 1, 1, threads, 1, 1, 0, stream, params, NULL));
}
