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

class OnConflict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_CONFLICT_UNSPECIFIED: _ClassVar[OnConflict]
    ON_CONFLICT_ERROR: _ClassVar[OnConflict]
    ON_CONFLICT_SKIP: _ClassVar[OnConflict]
    ON_CONFLICT_REPLACE: _ClassVar[OnConflict]
ON_CONFLICT_UNSPECIFIED: OnConflict
ON_CONFLICT_ERROR: OnConflict
ON_CONFLICT_SKIP: OnConflict
ON_CONFLICT_REPLACE: OnConflict

class RememberRequest(_message.Message):
    __slots__ = ("memory_space_id", "memories", "on_conflict", "embedded_by")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    ON_CONFLICT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDED_BY_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    memories: _containers.RepeatedCompositeFieldContainer[_types_pb2.NewMemory]
    on_conflict: OnConflict
    embedded_by: _types_pb2.EmbeddingSpec
    def __init__(self, memory_space_id: _Optional[str] = ..., memories: _Optional[_Iterable[_Union[_types_pb2.NewMemory, _Mapping]]] = ..., on_conflict: _Optional[_Union[OnConflict, str]] = ..., embedded_by: _Optional[_Union[_types_pb2.EmbeddingSpec, _Mapping]] = ...) -> None: ...

class RememberResponse(_message.Message):
    __slots__ = ("memory_space_id", "position", "memories", "skipped")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    position: int
    memories: _containers.RepeatedCompositeFieldContainer[_types_pb2.Memory]
    skipped: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, memory_space_id: _Optional[str] = ..., position: _Optional[int] = ..., memories: _Optional[_Iterable[_Union[_types_pb2.Memory, _Mapping]]] = ..., skipped: _Optional[_Iterable[str]] = ...) -> None: ...

class RememberManyRequest(_message.Message):
    __slots__ = ("memory_space_id", "memories", "on_conflict", "embedded_by")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    ON_CONFLICT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDED_BY_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    memories: _containers.RepeatedCompositeFieldContainer[_types_pb2.NewMemory]
    on_conflict: OnConflict
    embedded_by: _types_pb2.EmbeddingSpec
    def __init__(self, memory_space_id: _Optional[str] = ..., memories: _Optional[_Iterable[_Union[_types_pb2.NewMemory, _Mapping]]] = ..., on_conflict: _Optional[_Union[OnConflict, str]] = ..., embedded_by: _Optional[_Union[_types_pb2.EmbeddingSpec, _Mapping]] = ...) -> None: ...

class RememberManyResponse(_message.Message):
    __slots__ = ("memory_space_id", "position", "batches", "memories", "ids")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    position: int
    batches: int
    memories: int
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, memory_space_id: _Optional[str] = ..., position: _Optional[int] = ..., batches: _Optional[int] = ..., memories: _Optional[int] = ..., ids: _Optional[_Iterable[str]] = ...) -> None: ...

class RecallRequest(_message.Message):
    __slots__ = ("memory_space_id", "query", "embedding", "memory_ids", "limit", "mode", "filter", "min_confidence", "as_of", "spread", "explain", "record")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    MEMORY_IDS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    MIN_CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    query: str
    embedding: _types_pb2.Vector
    memory_ids: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    mode: _types_pb2.Mode
    filter: _types_pb2.Filter
    min_confidence: float
    as_of: _types_pb2.AsOf
    spread: _types_pb2.Spread
    explain: bool
    record: bool
    def __init__(self, memory_space_id: _Optional[str] = ..., query: _Optional[str] = ..., embedding: _Optional[_Union[_types_pb2.Vector, _Mapping]] = ..., memory_ids: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ..., mode: _Optional[_Union[_types_pb2.Mode, str]] = ..., filter: _Optional[_Union[_types_pb2.Filter, _Mapping]] = ..., min_confidence: _Optional[float] = ..., as_of: _Optional[_Union[_types_pb2.AsOf, _Mapping]] = ..., spread: _Optional[_Union[_types_pb2.Spread, _Mapping]] = ..., explain: _Optional[bool] = ..., record: _Optional[bool] = ...) -> None: ...

class RecallResponse(_message.Message):
    __slots__ = ("memory_space_id", "recall_id", "position", "mode", "recorded", "results", "took_ms")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    RECALL_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    recall_id: str
    position: int
    mode: _types_pb2.Mode
    recorded: bool
    results: _containers.RepeatedCompositeFieldContainer[_types_pb2.Hit]
    took_ms: float
    def __init__(self, memory_space_id: _Optional[str] = ..., recall_id: _Optional[str] = ..., position: _Optional[int] = ..., mode: _Optional[_Union[_types_pb2.Mode, str]] = ..., recorded: _Optional[bool] = ..., results: _Optional[_Iterable[_Union[_types_pb2.Hit, _Mapping]]] = ..., took_ms: _Optional[float] = ...) -> None: ...

class Known(_message.Message):
    __slots__ = ("content", "tags", "kind", "source", "since", "until", "metadata")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    content: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    kind: _types_pb2.Kind
    source: str
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    metadata: _types_pb2.Object
    def __init__(self, content: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ..., kind: _Optional[_Union[_types_pb2.Kind, str]] = ..., source: _Optional[str] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., metadata: _Optional[_Union[_types_pb2.Object, _Mapping]] = ...) -> None: ...

class CompleteRequest(_message.Message):
    __slots__ = ("memory_space_id", "query", "embedding", "known", "beta", "limit", "include_embedding")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    query: str
    embedding: _types_pb2.Vector
    known: Known
    beta: float
    limit: int
    include_embedding: bool
    def __init__(self, memory_space_id: _Optional[str] = ..., query: _Optional[str] = ..., embedding: _Optional[_Union[_types_pb2.Vector, _Mapping]] = ..., known: _Optional[_Union[Known, _Mapping]] = ..., beta: _Optional[float] = ..., limit: _Optional[int] = ..., include_embedding: _Optional[bool] = ...) -> None: ...

class Voter(_message.Message):
    __slots__ = ("id", "position", "weight")
    ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    id: str
    position: int
    weight: float
    def __init__(self, id: _Optional[str] = ..., position: _Optional[int] = ..., weight: _Optional[float] = ...) -> None: ...

class FilledText(_message.Message):
    __slots__ = ("value", "confidence", "evidence")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    value: str
    confidence: float
    evidence: _containers.RepeatedCompositeFieldContainer[Voter]
    def __init__(self, value: _Optional[str] = ..., confidence: _Optional[float] = ..., evidence: _Optional[_Iterable[_Union[Voter, _Mapping]]] = ...) -> None: ...

class FilledTime(_message.Message):
    __slots__ = ("value", "confidence", "evidence")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    value: _timestamp_pb2.Timestamp
    confidence: float
    evidence: _containers.RepeatedCompositeFieldContainer[Voter]
    def __init__(self, value: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., confidence: _Optional[float] = ..., evidence: _Optional[_Iterable[_Union[Voter, _Mapping]]] = ...) -> None: ...

class FilledValue(_message.Message):
    __slots__ = ("value", "confidence", "evidence")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    value: _types_pb2.Value
    confidence: float
    evidence: _containers.RepeatedCompositeFieldContainer[Voter]
    def __init__(self, value: _Optional[_Union[_types_pb2.Value, _Mapping]] = ..., confidence: _Optional[float] = ..., evidence: _Optional[_Iterable[_Union[Voter, _Mapping]]] = ...) -> None: ...

class CompleteResponse(_message.Message):
    __slots__ = ("memory_space_id", "position", "beta", "steps", "converged", "entropy", "single", "attractor", "content", "kind", "source", "occurred_at", "tags", "metadata", "took_ms", "embedding")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FilledValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FilledValue, _Mapping]] = ...) -> None: ...
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    BETA_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    CONVERGED_FIELD_NUMBER: _ClassVar[int]
    ENTROPY_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FIELD_NUMBER: _ClassVar[int]
    ATTRACTOR_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    position: int
    beta: float
    steps: int
    converged: bool
    entropy: float
    single: bool
    attractor: _containers.RepeatedCompositeFieldContainer[Voter]
    content: FilledText
    kind: FilledText
    source: FilledText
    occurred_at: FilledTime
    tags: _containers.RepeatedCompositeFieldContainer[FilledText]
    metadata: _containers.MessageMap[str, FilledValue]
    took_ms: float
    embedding: _types_pb2.Vector
    def __init__(self, memory_space_id: _Optional[str] = ..., position: _Optional[int] = ..., beta: _Optional[float] = ..., steps: _Optional[int] = ..., converged: _Optional[bool] = ..., entropy: _Optional[float] = ..., single: _Optional[bool] = ..., attractor: _Optional[_Iterable[_Union[Voter, _Mapping]]] = ..., content: _Optional[_Union[FilledText, _Mapping]] = ..., kind: _Optional[_Union[FilledText, _Mapping]] = ..., source: _Optional[_Union[FilledText, _Mapping]] = ..., occurred_at: _Optional[_Union[FilledTime, _Mapping]] = ..., tags: _Optional[_Iterable[_Union[FilledText, _Mapping]]] = ..., metadata: _Optional[_Mapping[str, FilledValue]] = ..., took_ms: _Optional[float] = ..., embedding: _Optional[_Union[_types_pb2.Vector, _Mapping]] = ...) -> None: ...

class GetMemoryRequest(_message.Message):
    __slots__ = ("memory_space_id", "id", "as_of", "include_embedding")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    id: str
    as_of: _types_pb2.AsOf
    include_embedding: bool
    def __init__(self, memory_space_id: _Optional[str] = ..., id: _Optional[str] = ..., as_of: _Optional[_Union[_types_pb2.AsOf, _Mapping]] = ..., include_embedding: _Optional[bool] = ...) -> None: ...

class ListMemoriesRequest(_message.Message):
    __slots__ = ("memory_space_id", "filter", "limit", "after", "as_of", "include_embedding")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    filter: _types_pb2.Filter
    limit: int
    after: int
    as_of: _types_pb2.AsOf
    include_embedding: bool
    def __init__(self, memory_space_id: _Optional[str] = ..., filter: _Optional[_Union[_types_pb2.Filter, _Mapping]] = ..., limit: _Optional[int] = ..., after: _Optional[int] = ..., as_of: _Optional[_Union[_types_pb2.AsOf, _Mapping]] = ..., include_embedding: _Optional[bool] = ...) -> None: ...

class ListMemoriesResponse(_message.Message):
    __slots__ = ("memories", "next")
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    memories: _containers.RepeatedCompositeFieldContainer[_types_pb2.Memory]
    next: int
    def __init__(self, memories: _Optional[_Iterable[_Union[_types_pb2.Memory, _Mapping]]] = ..., next: _Optional[int] = ...) -> None: ...

class HistoryRequest(_message.Message):
    __slots__ = ("memory_space_id", "id")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    id: str
    def __init__(self, memory_space_id: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class HistoryResponse(_message.Message):
    __slots__ = ("memory_space_id", "id", "events")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    id: str
    events: _containers.RepeatedCompositeFieldContainer[_types_pb2.Event]
    def __init__(self, memory_space_id: _Optional[str] = ..., id: _Optional[str] = ..., events: _Optional[_Iterable[_Union[_types_pb2.Event, _Mapping]]] = ...) -> None: ...

class Tags(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class ReviseRequest(_message.Message):
    __slots__ = ("memory_space_id", "id", "content", "tags", "metadata", "confidence", "occurred_at", "expires_at", "source", "embedding", "clear", "if_match")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    CLEAR_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    id: str
    content: str
    tags: Tags
    metadata: _types_pb2.Object
    confidence: float
    occurred_at: _timestamp_pb2.Timestamp
    expires_at: _timestamp_pb2.Timestamp
    source: str
    embedding: _types_pb2.Vector
    clear: _containers.RepeatedScalarFieldContainer[str]
    if_match: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, memory_space_id: _Optional[str] = ..., id: _Optional[str] = ..., content: _Optional[str] = ..., tags: _Optional[_Union[Tags, _Mapping]] = ..., metadata: _Optional[_Union[_types_pb2.Object, _Mapping]] = ..., confidence: _Optional[float] = ..., occurred_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., source: _Optional[str] = ..., embedding: _Optional[_Union[_types_pb2.Vector, _Mapping]] = ..., clear: _Optional[_Iterable[str]] = ..., if_match: _Optional[_Iterable[str]] = ...) -> None: ...

class ForgetRequest(_message.Message):
    __slots__ = ("memory_space_id", "id", "filter", "purge", "if_match")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PURGE_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    id: str
    filter: _types_pb2.Filter
    purge: bool
    if_match: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, memory_space_id: _Optional[str] = ..., id: _Optional[str] = ..., filter: _Optional[_Union[_types_pb2.Filter, _Mapping]] = ..., purge: _Optional[bool] = ..., if_match: _Optional[_Iterable[str]] = ...) -> None: ...

class ForgetResponse(_message.Message):
    __slots__ = ("forgotten", "receipt", "matching")
    FORGOTTEN_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    MATCHING_FIELD_NUMBER: _ClassVar[int]
    forgotten: Forgotten
    receipt: _types_pb2.PurgeReceipt
    matching: ForgottenMatching
    def __init__(self, forgotten: _Optional[_Union[Forgotten, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.PurgeReceipt, _Mapping]] = ..., matching: _Optional[_Union[ForgottenMatching, _Mapping]] = ...) -> None: ...

class ForgottenMatching(_message.Message):
    __slots__ = ("memory_space_id", "count", "position")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    count: int
    position: int
    def __init__(self, memory_space_id: _Optional[str] = ..., count: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class Forgotten(_message.Message):
    __slots__ = ("id", "position")
    ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    id: str
    position: int
    def __init__(self, id: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class RestoreMemoryRequest(_message.Message):
    __slots__ = ("memory_space_id", "id", "if_match")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    IF_MATCH_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    id: str
    if_match: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, memory_space_id: _Optional[str] = ..., id: _Optional[str] = ..., if_match: _Optional[_Iterable[str]] = ...) -> None: ...

class LinkRequest(_message.Message):
    __slots__ = ("memory_space_id", "source", "target", "weight", "relation")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    source: str
    target: str
    weight: float
    relation: str
    def __init__(self, memory_space_id: _Optional[str] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., weight: _Optional[float] = ..., relation: _Optional[str] = ...) -> None: ...

class UnlinkRequest(_message.Message):
    __slots__ = ("memory_space_id", "source", "target", "relation")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    source: str
    target: str
    relation: str
    def __init__(self, memory_space_id: _Optional[str] = ..., source: _Optional[str] = ..., target: _Optional[str] = ..., relation: _Optional[str] = ...) -> None: ...

class Unlinked(_message.Message):
    __slots__ = ("source", "target", "relation", "position")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    RELATION_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    source: str
    target: str
    relation: str
    position: int
    def __init__(self, source: _Optional[str] = ..., target: _Optional[str] = ..., relation: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class LinksRequest(_message.Message):
    __slots__ = ("memory_space_id", "memory_id", "limit", "after")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    MEMORY_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    memory_id: str
    limit: int
    after: int
    def __init__(self, memory_space_id: _Optional[str] = ..., memory_id: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[int] = ...) -> None: ...

class LinksResponse(_message.Message):
    __slots__ = ("links", "next")
    LINKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    links: _containers.RepeatedCompositeFieldContainer[_types_pb2.Link]
    next: int
    def __init__(self, links: _Optional[_Iterable[_Union[_types_pb2.Link, _Mapping]]] = ..., next: _Optional[int] = ...) -> None: ...

class ConsolidateRequest(_message.Message):
    __slots__ = ("memory_space_id", "dry_run")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    dry_run: bool
    def __init__(self, memory_space_id: _Optional[str] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class Belief(_message.Message):
    __slots__ = ("id", "action", "revision", "content", "strength", "sources", "citations", "summariser")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    SUMMARISER_FIELD_NUMBER: _ClassVar[int]
    id: str
    action: str
    revision: int
    content: str
    strength: float
    sources: _containers.RepeatedCompositeFieldContainer[_types_pb2.BeliefSource]
    citations: _containers.RepeatedCompositeFieldContainer[_types_pb2.Citation]
    summariser: str
    def __init__(self, id: _Optional[str] = ..., action: _Optional[str] = ..., revision: _Optional[int] = ..., content: _Optional[str] = ..., strength: _Optional[float] = ..., sources: _Optional[_Iterable[_Union[_types_pb2.BeliefSource, _Mapping]]] = ..., citations: _Optional[_Iterable[_Union[_types_pb2.Citation, _Mapping]]] = ..., summariser: _Optional[str] = ...) -> None: ...

class ConsolidateResponse(_message.Message):
    __slots__ = ("memory_space_id", "beliefs", "position", "dry_run", "episodes", "left", "took_ms")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    BELIEFS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    EPISODES_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    TOOK_MS_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    beliefs: _containers.RepeatedCompositeFieldContainer[Belief]
    position: int
    dry_run: bool
    episodes: int
    left: int
    took_ms: float
    def __init__(self, memory_space_id: _Optional[str] = ..., beliefs: _Optional[_Iterable[_Union[Belief, _Mapping]]] = ..., position: _Optional[int] = ..., dry_run: _Optional[bool] = ..., episodes: _Optional[int] = ..., left: _Optional[int] = ..., took_ms: _Optional[float] = ...) -> None: ...

class ApplyForgettingRequest(_message.Message):
    __slots__ = ("memory_space_id", "dry_run")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    dry_run: bool
    def __init__(self, memory_space_id: _Optional[str] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class Lapsed(_message.Message):
    __slots__ = ("id", "revision", "reason", "base_level", "bound", "position")
    ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BASE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    id: str
    revision: int
    reason: str
    base_level: float
    bound: float
    position: int
    def __init__(self, id: _Optional[str] = ..., revision: _Optional[int] = ..., reason: _Optional[str] = ..., base_level: _Optional[float] = ..., bound: _Optional[float] = ..., position: _Optional[int] = ...) -> None: ...

class ApplyForgettingResponse(_message.Message):
    __slots__ = ("memory_space_id", "dry_run", "forgetting", "count", "memories", "position")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    FORGETTING_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MEMORIES_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    dry_run: bool
    forgetting: _types_pb2.Forgetting
    count: int
    memories: _containers.RepeatedCompositeFieldContainer[Lapsed]
    position: int
    def __init__(self, memory_space_id: _Optional[str] = ..., dry_run: _Optional[bool] = ..., forgetting: _Optional[_Union[_types_pb2.Forgetting, _Mapping]] = ..., count: _Optional[int] = ..., memories: _Optional[_Iterable[_Union[Lapsed, _Mapping]]] = ..., position: _Optional[int] = ...) -> None: ...

class EventsRequest(_message.Message):
    __slots__ = ("memory_space_id", "after", "incarnation", "types")
    MEMORY_SPACE_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    memory_space_id: str
    after: int
    incarnation: str
    types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, memory_space_id: _Optional[str] = ..., after: _Optional[int] = ..., incarnation: _Optional[str] = ..., types: _Optional[_Iterable[str]] = ...) -> None: ...

class EventsResponse(_message.Message):
    __slots__ = ("position", "space_uuid", "event")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SPACE_UUID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    position: int
    space_uuid: str
    event: _types_pb2.Event
    def __init__(self, position: _Optional[int] = ..., space_uuid: _Optional[str] = ..., event: _Optional[_Union[_types_pb2.Event, _Mapping]] = ...) -> None: ...
