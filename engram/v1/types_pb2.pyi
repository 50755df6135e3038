import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    KIND_EPISODE: _ClassVar[Kind]
    KIND_BELIEF: _ClassVar[Kind]
    KIND_FACT: _ClassVar[Kind]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_SIMILARITY: _ClassVar[Mode]
    MODE_LEXICAL: _ClassVar[Mode]
    MODE_HYBRID: _ClassVar[Mode]
    MODE_SPREADING: _ClassVar[Mode]
KIND_UNSPECIFIED: Kind
KIND_EPISODE: Kind
KIND_BELIEF: Kind
KIND_FACT: Kind
MODE_UNSPECIFIED: Mode
MODE_SIMILARITY: Mode
MODE_LEXICAL: Mode
MODE_HYBRID: Mode
MODE_SPREADING: Mode

class Value(_message.Message):
    __slots__ = ("null_value", "bool_value", "int_value", "uint_value", "number_value", "string_value", "list_value", "object_value")
    NULL_VALUE_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    UINT_VALUE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    LIST_VALUE_FIELD_NUMBER: _ClassVar[int]
    OBJECT_VALUE_FIELD_NUMBER: _ClassVar[int]
    null_value: bool
    bool_value: bool
    int_value: int
    uint_value: int
    number_value: float
    string_value: str
    list_value: List
    object_value: Object
    def __init__(self, null_value: _Optional[bool] = ..., bool_value: _Optional[bool] = ..., int_value: _Optional[int] = ..., uint_value: _Optional[int] = ..., number_value: _Optional[float] = ..., string_value: _Optional[str] = ..., list_value: _Optional[_Union[List, _Mapping]] = ..., object_value: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...

class List(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class Object(_message.Message):
    __slots__ = ("fields",)
    class FieldsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.MessageMap[str, Value]
    def __init__(self, fields: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Vector(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class AsOf(_message.Message):
    __slots__ = ("position", "time")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    position: int
    time: _timestamp_pb2.Timestamp
    def __init__(self, position: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class NewMemory(_message.Message):
    __slots__ = ("content", "id", "kind", "tags", "metadata", "confidence", "occurred_at", "expires_at", "source", "embedding")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    content: str
    id: str
    kind: Kind
    tags: _containers.RepeatedScalarFieldContainer[str]
    metadata: Object
    confidence: float
    occurred_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    source: str
    embedding: Vector
    def __init__(self, content: _Optional[str] = ..., id: _Optional[str] = ..., kind: _Optional[_Union[Kind, str]] = ..., tags: _Optional[_Iterable[str]] = ..., metadata: _Optional[_Union[Object, _Mapping]] = ..., confidence: _Optional[float] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., source: _Optional[str] = ..., embedding: _Optional[_Union[Vector, _Mapping]] = ...) -> None: ...

class Memory(_message.Message):
    __slots__ = ("id", "memory_space_id", "kind", "content", "tags", "metadata", "confidence", "occurred_at", "expires_at", "stored_at", "source", "revision", "position", "embedding", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    STORED_AT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    memory_space_id: str
    kind: Kind
    content: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    metadata: Object
    confidence: float
    occurred_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    stored_at: _timestamp_pb2.Timestamp
    source: str
    revision: int
    position: int
    embedding: Vector
    etag: str
    def __init__(self, id: _Optional[str] = ..., memory_space_id: _Optional[str] = ..., kind: _Optional[_Union[Kind, str]] = ..., content: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., metadata: _Optional[_Union[Object, _Mapping]] = ..., confidence: _Optional[float] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stored_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., source: _Optional[str] = ..., revision: _Optional[int] = ..., position: _Optional[int] = ..., embedding: _Optional[_Union[Vector, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("tags_all", "tags_any", "kind", "source", "since", "until", "metadata")
    TAGS_ALL_FIELD_NUMBER: _ClassVar[int]
    TAGS_ANY_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    tags_all: _containers.RepeatedScalarFieldContainer[str]
    tags_any: _containers.RepeatedScalarFieldContainer[str]
    kind: Kind
    source: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    metadata: Object
    def __init__(self, tags_all: _Optional[_Iterable[str]] = ..., tags_any: _Optional[_Iterable[str]] = ..., kind: _Optional[_Union[Kind, str]] = ..., source: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., metadata: _Optional[_Union[Object, _Mapping]] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("memory_space_id", "source", "target", "relation", "weight", "position")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    source: str
    target: str
    relation: str
    weight: float
    position: int
    def __init__(self, memory_space_id: _Optional[str] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., relation: _Optional[str] = ..., weight: _Optional[float] = ..., position: _Optional[int] = ...) -> None: ...

class Confidence(_message.Message):
    __slots__ = ("point", "lower", "upper")
    POINT_FIELD_NUMBER: _ClassVar[int]
    LOWER_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    point: float
    lower: float
    upper: float
    def __init__(self, point: _Optional[float] = ..., lower: _Optional[float] = ..., upper: _Optional[float] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("from_id", "to_id", "weight", "relation")
    FROM_ID_FIELD_NUMBER: _ClassVar[int]
    TO_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    from_id: str
    to_id: str
    weight: float
    relation: str
    def __init__(self, from_id: _Optional[str] = ..., to_id: _Optional[str] = ..., weight: _Optional[float] = ..., relation: _Optional[str] = ...) -> None: ...

class Why(_message.Message):
    __slots__ = ("similarity", "lexical", "window", "activation", "recency", "frequency", "cosine", "bm25", "path", "positions")
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    LEXICAL_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    RECENCY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    BM25_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    similarity: float
    lexical: float
    window: float
    activation: float
    recency: float
    frequency: float
    cosine: float
    bm25: float
    path: _containers.RepeatedCompositeFieldContainer[Step]
    positions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, similarity: _Optional[float] = ..., lexical: _Optional[float] = ..., window: _Optional[float] = ..., activation: _Optional[float] = ..., recency: _Optional[float] = ..., frequency: _Optional[float] = ..., cosine: _Optional[float] = ..., bm25: _Optional[float] = ..., path: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., positions: _Optional[_Iterable[int]] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("memory", "score", "confidence", "activation", "hops", "why")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    memory: Memory
    score: float
    confidence: Confidence
    activation: float
    hops: int
    why: Why
    def __init__(self, memory: _Optional[_Union[Memory, _Mapping]] = ..., score: _Optional[float] = ..., confidence: _Optional[_Union[Confidence, _Mapping]] = ..., activation: _Optional[float] = ..., hops: _Optional[int] = ..., why: _Optional[_Union[Why, _Mapping]] = ...) -> None: ...

class Spread(_message.Message):
    __slots__ = ("max_hops", "decay", "threshold")
    MAX_HOPS_FIELD_NUMBER: _ClassVar[int]
    DECAY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    max_hops: int
    decay: float
    threshold: float
    def __init__(self, max_hops: _Optional[int] = ..., decay: _Optional[float] = ..., threshold: _Optional[float] = ...) -> None: ...

class EmbeddingSpec(_message.Message):
    __slots__ = ("model", "dimensions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    model: str
    dimensions: int
    def __init__(self, model: _Optional[str] = ..., dimensions: _Optional[int] = ...) -> None: ...

class Retention(_message.Message):
    __slots__ = ("positions", "age_s")
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    positions: int
    age_s: int
    def __init__(self, positions: _Optional[int] = ..., age_s: _Optional[int] = ...) -> None: ...

class Decay(_message.Message):
    __slots__ = ("family", "exponent", "half_life_s", "weight")
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    EXPONENT_FIELD_NUMBER: _ClassVar[int]
    HALF_LIFE_S_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    family: str
    exponent: float
    half_life_s: int
    weight: float
    def __init__(self, family: _Optional[str] = ..., exponent: _Optional[float] = ..., half_life_s: _Optional[int] = ..., weight: _Optional[float] = ...) -> None: ...

class Forgetting(_message.Message):
    __slots__ = ("capacity", "threshold", "grace_s", "spare_kinds", "spare_tags")
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    SPARE_KINDS_FIELD_NUMBER: _ClassVar[int]
    SPARE_TAGS_FIELD_NUMBER: _ClassVar[int]
    capacity: int
    threshold: float
    grace_s: int
    spare_kinds: _containers.RepeatedScalarFieldContainer[Kind]
    spare_tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, capacity: _Optional[int] = ..., threshold: _Optional[float] = ..., grace_s: _Optional[int] = ..., spare_kinds: _Optional[_Iterable[_Union[Kind, str]]] = ..., spare_tags: _Optional[_Iterable[str]] = ...) -> None: ...

class Rhythm(_message.Message):
    __slots__ = ("after", "every_s")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    EVERY_S_FIELD_NUMBER: _ClassVar[int]
    after: int
    every_s: int
    def __init__(self, after: _Optional[int] = ..., every_s: _Optional[int] = ...) -> None: ...

class Quotas(_message.Message):
    __slots__ = ("memories", "bytes", "writes_per_second", "recalls_per_second", "subscribers")
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    WRITES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    RECALLS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBERS_FIELD_NUMBER: _ClassVar[int]
    memories: int
    bytes: int
    writes_per_second: int
    recalls_per_second: int
    subscribers: int
    def __init__(self, memories: _Optional[int] = ..., bytes: _Optional[int] = ..., writes_per_second: _Optional[int] = ..., recalls_per_second: _Optional[int] = ..., subscribers: _Optional[int] = ...) -> None: ...

class BeliefSource(_message.Message):
    __slots__ = ("id", "revision")
    ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    id: str
    revision: int
    def __init__(self, id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class Citation(_message.Message):
    __slots__ = ("id", "start", "end")
    ID_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    id: str
    start: int
    end: int
    def __init__(self, id: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class PurgedFile(_message.Message):
    __slots__ = ("name", "crc32c")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    name: str
    crc32c: str
    def __init__(self, name: _Optional[str] = ..., crc32c: _Optional[str] = ...) -> None: ...

class PurgeReceipt(_message.Message):
    __slots__ = ("memory_space_id", "id", "count", "position", "purged_at", "completed_position", "completed_at", "files")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    PURGED_AT_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_POSITION_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_AT_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    id: str
    count: int
    position: int
    purged_at: _timestamp_pb2.Timestamp
    completed_position: int
    completed_at: _timestamp_pb2.Timestamp
    files: _containers.RepeatedCompositeFieldContainer[PurgedFile]
    def __init__(self, memory_space_id: _Optional[str] = ..., id: _Optional[str] = ..., count: _Optional[int] = ..., position: _Optional[int] = ..., purged_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., completed_position: _Optional[int] = ..., completed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., files: _Optional[_Iterable[_Union[PurgedFile, _Mapping]]] = ...) -> None: ...

class Recalled(_message.Message):
    __slots__ = ("id", "score")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    id: str
    score: float
    def __init__(self, id: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class Activated(_message.Message):
    __slots__ = ("id", "activation", "hop")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    HOP_FIELD_NUMBER: _ClassVar[int]
    id: str
    activation: float
    hop: int
    def __init__(self, id: _Optional[str] = ..., activation: _Optional[float] = ..., hop: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("memory_space_id", "space_uuid", "position", "type", "time", "memory", "id", "revision", "reason", "recall_id", "mode", "query_digest", "results", "generation", "embedding", "retention", "purge_after", "checkpoint_position", "oldest_position", "checkpoint_bytes", "purged_to", "redacted_from", "redacted_to", "source", "target", "relation", "weight", "decay", "consolidation", "sources", "strength", "citations", "summariser", "forgetting", "base_level", "bound", "activated", "quotas")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPACE_UUID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECALL_ID_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    QUERY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    PURGE_AFTER_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_POSITION_FIELD_NUMBER: _ClassVar[int]
    OLDEST_POSITION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_BYTES_FIELD_NUMBER: _ClassVar[int]
    PURGED_TO_FIELD_NUMBER: _ClassVar[int]
    REDACTED_FROM_FIELD_NUMBER: _ClassVar[int]
    REDACTED_TO_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DECAY_FIELD_NUMBER: _ClassVar[int]
    CONSOLIDATION_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    SUMMARISER_FIELD_NUMBER: _ClassVar[int]
    FORGETTING_FIELD_NUMBER: _ClassVar[int]
    BASE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    ACTIVATED_FIELD_NUMBER: _ClassVar[int]
    QUOTAS_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    space_uuid: str
    position: int
    type: str
    time: _timestamp_pb2.Timestamp
    memory: Memory
    id: str
    revision: int
    reason: str
    recall_id: str
    mode: str
    query_digest: str
    results: _containers.RepeatedCompositeFieldContainer[Recalled]
    generation: int
    embedding: EmbeddingSpec
    retention: Retention
    purge_after: _timestamp_pb2.Timestamp
    checkpoint_position: int
    oldest_position: int
    checkpoint_bytes: int
    purged_to: int
    redacted_from: int
    redacted_to: int
    source: str
    target: str
    relation: str
    weight: float
    decay: Decay
    consolidation: Rhythm
    sources: _containers.RepeatedCompositeFieldContainer[BeliefSource]
    strength: float
    citations: _containers.RepeatedCompositeFieldContainer[Citation]
    summariser: str
    forgetting: Forgetting
    base_level: float
    bound: float
    activated: _containers.RepeatedCompositeFieldContainer[Activated]
    quotas: Quotas
    def __init__(self, memory_space_id: _Optional[str] = ..., space_uuid: _Optional[str] = ..., position: _Optional[int] = ..., type: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., memory: _Optional[_Union[Memory, _Mapping]] = ..., id: _Optional[str] = ..., revision: _Optional[int] = ..., reason: _Optional[str] = ..., recall_id: _Optional[str] = ..., mode: _Optional[str] = ..., query_digest: _Optional[str] = ..., results: _Optional[_Iterable[_Union[Recalled, _Mapping]]] = ..., generation: _Optional[int] = ..., embedding: _Optional[_Union[EmbeddingSpec, _Mapping]] = ..., retention: _Optional[_Union[Retention, _Mapping]] = ..., purge_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., checkpoint_position: _Optional[int] = ..., oldest_position: _Optional[int] = ..., checkpoint_bytes: _Optional[int] = ..., purged_to: _Optional[int] = ..., redacted_from: _Optional[int] = ..., redacted_to: _Optional[int] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., relation: _Optional[str] = ..., weight: _Optional[float] = ..., decay: _Optional[_Union[Decay, _Mapping]] = ..., consolidation: _Optional[_Union[Rhythm, _Mapping]] = ..., sources: _Optional[_Iterable[_Union[BeliefSource, _Mapping]]] = ..., strength: _Optional[float] = ..., citations: _Optional[_Iterable[_Union[Citation, _Mapping]]] = ..., summariser: _Optional[str] = ..., forgetting: _Optional[_Union[Forgetting, _Mapping]] = ..., base_level: _Optional[float] = ..., bound: _Optional[float] = ..., activated: _Optional[_Iterable[_Union[Activated, _Mapping]]] = ..., quotas: _Optional[_Union[Quotas, _Mapping]] = ...) -> None: ...
