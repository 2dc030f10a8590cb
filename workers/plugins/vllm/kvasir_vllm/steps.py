"""What the scheduler's half tells the workers' half, step by step."""

from dataclasses import dataclass, field

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata


@dataclass
class Load:
    """Staged blocks of a request that are to be copied to pages."""

    request: str
    pool: str  # that the slots are of
    until: float  # time.monotonic() up to which the slots are held
    slots: list[int]
    blocks: list[int]


@dataclass
class Save:
    """A block that is full when the step has been computed."""

    hash: bytes
    parent: bytes
    block: int


@dataclass
class Step(KVConnectorMetadata):
    loads: list[Load] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)
