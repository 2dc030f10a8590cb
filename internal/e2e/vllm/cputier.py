"""Lets vLLM's tiered offloading run without a GPU: the copies between pages and
region, which vLLM makes on GPUs only, are made by the CPU. All else is vLLM's."""

from vllm.v1.kv_offload.base import OffloadingWorker, TransferResult
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec


class MemcpyWorker(OffloadingWorker):
    def __init__(self, caches, blocks_per_chunk, region):
        self._caches, self._per_chunk, self._region = caches, blocks_per_chunk, region
        self._views = [region.create_next_worker_view(t.page_size_bytes * blocks_per_chunk) for t in caches.tensors]
        self._done = []

    def submit_store(self, job_id, src_spec, dst_spec):
        return self._run(job_id, src_spec, dst_spec, store=True)

    def submit_load(self, job_id, src_spec, dst_spec):
        return self._run(job_id, dst_spec, src_spec, store=False)

    def _run(self, job_id, gpu, cpu, store):
        at_block = at_chunk = moved = 0
        for group, size in enumerate(gpu.group_sizes):
            skip = gpu.block_indices[group] % self._per_chunk if size else 0
            for i in range(size):
                chunk, part = divmod(skip + i, self._per_chunk)
                row, block = int(cpu.block_ids[at_chunk + chunk]), int(gpu.block_ids[at_block + i])
                for ref in self._caches.group_data_refs[group]:
                    n = ref.page_size_bytes
                    page = self._caches.tensors[ref.tensor_idx].tensor[block, :n]
                    copy = self._views[ref.tensor_idx][row, part * n : (part + 1) * n]
                    copy.copy_(page) if store else page.copy_(copy)
                    moved += n
            at_block += size
            at_chunk += -(-(skip + size) // self._per_chunk) if size else 0
        self._done.append(TransferResult(job_id, True, moved, 0.0))
        return True

    def get_finished(self):
        done, self._done = self._done, []
        return done

    def wait(self, job_ids):
        pass

    def shutdown(self):
        self._views = []
        self._region.cleanup()


class CPUTieringSpec(TieringOffloadingSpec):
    def get_worker(self, kv_caches):
        if not self._worker:
            region = SharedOffloadRegion(
                engine_id=self._engine_id,
                num_chunks=self.num_chunks,
                rank=self.config.parallel.rank,
                kv_bytes_per_chunk=self.kv_bytes_per_chunk,
                cpu_page_size=self.cpu_page_size_per_worker,
            )
            self._worker = MemcpyWorker(kv_caches, self.blocks_per_chunk, region)
        return self._worker
