import datetime

from engram.v1 import types_pb2 as _types_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SpaceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPACE_STATE_UNSPECIFIED: _ClassVar[SpaceState]
    SPACE_STATE_ACTIVE: _ClassVar[SpaceState]
    SPACE_STATE_READ_ONLY: _ClassVar[SpaceState]
    SPACE_STATE_POISONED: _ClassVar[SpaceState]
    SPACE_STATE_DAMAGED: _ClassVar[SpaceState]
    SPACE_STATE_DELETED: _ClassVar[SpaceState]
SPACE_STATE_UNSPECIFIED: SpaceState
SPACE_STATE_ACTIVE: SpaceState
SPACE_STATE_READ_ONLY: SpaceState
SPACE_STATE_POISONED: SpaceState
SPACE_STATE_DAMAGED: SpaceState
SPACE_STATE_DELETED: SpaceState

class Space(_message.Message):
    __slots__ = ("memory_space_id", "uuid", "generation", "state", "created_at", "embedding", "retention", "decay", "forgetting", "consolidation", "position", "memories", "bytes", "oldest_position", "checkpoint_bytes", "detail", "deleted_at", "purge_after", "quotas")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    DECAY_FIELD_NUMBER: _ClassVar[int]
    FORGETTING_FIELD_NUMBER: _ClassVar[int]
    CONSOLIDATION_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    OLDEST_POSITION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    DELETED_AT_FIELD_NUMBER: _ClassVar[int]
    PURGE_AFTER_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    uuid: str
    generation: int
    state: SpaceState
    created_at: _timestamp_pb2.Timestamp
    embedding: _types_pb2.EmbeddingSpec
    retention: _types_pb2.Retention
    decay: _types_pb2.Decay
    forgetting: _types_pb2.Forgetting
    consolidation: _types_pb2.Rhythm
    position: int
    memories: int
    bytes: int
    oldest_position: int
    checkpoint_bytes: int
    detail: str
    deleted_at: _timestamp_pb2.Timestamp
    purge_after: _timestamp_pb2.Timestamp
    quotas: _types_pb2.Quotas
    def __init__(self, memory_space_id: _Optional[str] = ..., uuid: _Optional[str] = ..., generation: _Optional[int] = ..., state: _Optional[_Union[SpaceState, str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., embedding: _Optional[_Union[_types_pb2.EmbeddingSpec, _Mapping]] = ..., retention: _Optional[_Union[_types_pb2.Retention, _Mapping]] = ..., decay: _Optional[_Union[_types_pb2.Decay, _Mapping]] = ..., forgetting: _Optional[_Union[_types_pb2.Forgetting, _Mapping]] = ..., consolidation: _Optional[_Union[_types_pb2.Rhythm, _Mapping]] = ..., position: _Optional[int] = ..., memories: _Optional[int] = ..., bytes: _Optional[int] = ..., oldest_position: _Optional[int] = ..., checkpoint_bytes: _Optional[int] = ..., detail: _Optional[str] = ..., deleted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purge_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., quotas: _Optional[_Union[_types_pb2.Quotas, _Mapping]] = ...) -> None: ...

class CreateSpaceRequest(_message.Message):
    __slots__ = ("memory_space_id", "embedding", "if_not_exists", "quotas")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    IF_NOT_EXISTS_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    embedding: _types_pb2.EmbeddingSpec
    if_not_exists: bool
    quotas: _types_pb2.Quotas
    def __init__(self, memory_space_id: _Optional[str] = ..., embedding: _Optional[_Union[_types_pb2.EmbeddingSpec, _Mapping]] = ..., if_not_exists: _Optional[bool] = ..., quotas: _Optional[_Union[_types_pb2.Quotas, _Mapping]] = ...) -> None: ...

class CreateSpaceResponse(_message.Message):
    __slots__ = ("space", "created")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    space: Space
    created: bool
    def __init__(self, space: _Optional[_Union[Space, _Mapping]] = ..., created: _Optional[bool] = ...) -> None: ...

class GetSpaceRequest(_message.Message):
    __slots__ = ("memory_space_id", "deleted")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    deleted: bool
    def __init__(self, memory_space_id: _Optional[str] = ..., deleted: _Optional[bool] = ...) -> None: ...

class ListSpacesRequest(_message.Message):
    __slots__ = ("limit", "after", "deleted")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    limit: int
    after: str
    deleted: bool
    def __init__(self, limit: _Optional[int] = ..., after: _Optional[str] = ..., deleted: _Optional[bool] = ...) -> None: ...

class ListSpacesResponse(_message.Message):
    __slots__ = ("spaces", "next")
    SPACES_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    spaces: _containers.RepeatedCompositeFieldContainer[Space]
    next: str
    def __init__(self, spaces: _Optional[_Iterable[_Union[Space, _Mapping]]] = ..., next: _Optional[str] = ...) -> None: ...

class ConfigureSpaceRequest(_message.Message):
    __slots__ = ("memory_space_id", "retention", "decay", "forgetting", "consolidation", "quotas")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    DECAY_FIELD_NUMBER: _ClassVar[int]
    FORGETTING_FIELD_NUMBER: _ClassVar[int]
    CONSOLIDATION_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    retention: _types_pb2.Retention
    decay: _types_pb2.Decay
    forgetting: _types_pb2.Forgetting
    consolidation: _types_pb2.Rhythm
    quotas: _types_pb2.Quotas
    def __init__(self, memory_space_id: _Optional[str] = ..., retention: _Optional[_Union[_types_pb2.Retention, _Mapping]] = ..., decay: _Optional[_Union[_types_pb2.Decay, _Mapping]] = ..., forgetting: _Optional[_Union[_types_pb2.Forgetting, _Mapping]] = ..., consolidation: _Optional[_Union[_types_pb2.Rhythm, _Mapping]] = ..., quotas: _Optional[_Union[_types_pb2.Quotas, _Mapping]] = ...) -> None: ...

class DeleteSpaceRequest(_message.Message):
    __slots__ = ("memory_space_id",)
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    def __init__(self, memory_space_id: _Optional[str] = ...) -> None: ...

class DeletedSpace(_message.Message):
    __slots__ = ("memory_space_id", "purge_after")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    PURGE_AFTER_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    purge_after: _timestamp_pb2.Timestamp
    def __init__(self, memory_space_id: _Optional[str] = ..., purge_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RestoreSpaceRequest(_message.Message):
    __slots__ = ("memory_space_id",)
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    def __init__(self, memory_space_id: _Optional[str] = ...) -> None: ...

class PurgeSpaceRequest(_message.Message):
    __slots__ = ("memory_space_id",)
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    def __init__(self, memory_space_id: _Optional[str] = ...) -> None: ...

class SpaceReceipt(_message.Message):
    __slots__ = ("memory_space_id", "uuid", "generation", "deleted_at", "purged_at", "files", "bytes")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    DELETED_AT_FIELD_NUMBER: _ClassVar[int]
    PURGED_AT_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    uuid: str
    generation: int
    deleted_at: _timestamp_pb2.Timestamp
    purged_at: _timestamp_pb2.Timestamp
    files: int
    bytes: int
    def __init__(self, memory_space_id: _Optional[str] = ..., uuid: _Optional[str] = ..., generation: _Optional[int] = ..., deleted_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purged_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., files: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class CompactRequest(_message.Message):
    __slots__ = ("memory_space_id",)
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    def __init__(self, memory_space_id: _Optional[str] = ...) -> None: ...

class Compaction(_message.Message):
    __slots__ = ("memory_space_id", "checkpoint_position", "oldest_position", "checkpoint_bytes", "checkpoints_bytes", "log_bytes", "segments_retired", "took_ms")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_POSITION_FIELD_NUMBER: _ClassVar[int]
    OLDEST_POSITION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOG_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_RETIRED_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    checkpoint_position: int
    oldest_position: int
    checkpoint_bytes: int
    checkpoints_bytes: int
    log_bytes: int
    segments_retired: int
    took_ms: float
    def __init__(self, memory_space_id: _Optional[str] = ..., checkpoint_position: _Optional[int] = ..., oldest_position: _Optional[int] = ..., checkpoint_bytes: _Optional[int] = ..., checkpoints_bytes: _Optional[int] = ..., log_bytes: _Optional[int] = ..., segments_retired: _Optional[int] = ..., took_ms: _Optional[float] = ...) -> None: ...

class ReopenRequest(_message.Message):
    __slots__ = ("memory_space_id",)
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    def __init__(self, memory_space_id: _Optional[str] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("memory_space_id",)
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    def __init__(self, memory_space_id: _Optional[str] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("position", "data")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    position: int
    data: bytes
    def __init__(self, position: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ImportRequest(_message.Message):
    __slots__ = ("memory_space_id", "data")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    data: bytes
    def __init__(self, memory_space_id: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class ForkRequest(_message.Message):
    __slots__ = ("memory_space_id", "new_memory_space_id", "as_of", "embedding")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    NEW_MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    new_memory_space_id: str
    as_of: int
    embedding: _types_pb2.EmbeddingSpec
    def __init__(self, memory_space_id: _Optional[str] = ..., new_memory_space_id: _Optional[str] = ..., as_of: _Optional[int] = ..., embedding: _Optional[_Union[_types_pb2.EmbeddingSpec, _Mapping]] = ...) -> None: ...

class Reembedded(_message.Message):
    __slots__ = ("model", "dimensions", "memories", "resumed")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    model: str
    dimensions: int
    memories: int
    resumed: int
    def __init__(self, model: _Optional[str] = ..., dimensions: _Optional[int] = ..., memories: _Optional[int] = ..., resumed: _Optional[int] = ...) -> None: ...

class Origin(_message.Message):
    __slots__ = ("memory_space_id", "space_uuid", "position", "as_of", "reembedded")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPACE_UUID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    REEMBEDDED_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    space_uuid: str
    position: int
    as_of: int
    reembedded: Reembedded
    def __init__(self, memory_space_id: _Optional[str] = ..., space_uuid: _Optional[str] = ..., position: _Optional[int] = ..., as_of: _Optional[int] = ..., reembedded: _Optional[_Union[Reembedded, _Mapping]] = ...) -> None: ...

class MadeSpace(_message.Message):
    __slots__ = ("space", "origin")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    space: Space
    origin: Origin
    def __init__(self, space: _Optional[_Union[Space, _Mapping]] = ..., origin: _Optional[_Union[Origin, _Mapping]] = ...) -> None: ...
