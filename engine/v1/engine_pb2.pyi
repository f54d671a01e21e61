from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Leg(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEG_UNSPECIFIED: _ClassVar[Leg]
    LEG_DENSE: _ClassVar[Leg]
    LEG_SPARSE: _ClassVar[Leg]
    LEG_BM25: _ClassVar[Leg]
    LEG_MULTI: _ClassVar[Leg]

class AcknowledgementStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACKNOWLEDGEMENT_STATUS_UNSPECIFIED: _ClassVar[AcknowledgementStatus]
    ACKNOWLEDGEMENT_STATUS_ADDED: _ClassVar[AcknowledgementStatus]
    ACKNOWLEDGEMENT_STATUS_UPDATED: _ClassVar[AcknowledgementStatus]
    ACKNOWLEDGEMENT_STATUS_UNCHANGED: _ClassVar[AcknowledgementStatus]
    ACKNOWLEDGEMENT_STATUS_FAILED: _ClassVar[AcknowledgementStatus]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_HYBRID: _ClassVar[Mode]
    MODE_DENSE: _ClassVar[Mode]
    MODE_SPARSE: _ClassVar[Mode]
    MODE_BM25: _ClassVar[Mode]
    MODE_MULTI: _ClassVar[Mode]

class Fusion(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FUSION_UNSPECIFIED: _ClassVar[Fusion]
    FUSION_CONVEX: _ClassVar[Fusion]
    FUSION_RRF: _ClassVar[Fusion]
    FUSION_DBSF: _ClassVar[Fusion]

class ResultField(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESULT_FIELD_UNSPECIFIED: _ClassVar[ResultField]
    RESULT_FIELD_TITLE: _ClassVar[ResultField]
    RESULT_FIELD_METADATA: _ClassVar[ResultField]
    RESULT_FIELD_SCORE_DETAIL: _ClassVar[ResultField]
    RESULT_FIELD_PLAN: _ClassVar[ResultField]
    RESULT_FIELD_TIMINGS_MS: _ClassVar[ResultField]

class QueryExpansionMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUERY_EXPANSION_METHOD_UNSPECIFIED: _ClassVar[QueryExpansionMethod]
    QUERY_EXPANSION_METHOD_HYDE: _ClassVar[QueryExpansionMethod]
    QUERY_EXPANSION_METHOD_THOUGHTS: _ClassVar[QueryExpansionMethod]
    QUERY_EXPANSION_METHOD_REWRITES: _ClassVar[QueryExpansionMethod]

class EmbedInput(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EMBED_INPUT_UNSPECIFIED: _ClassVar[EmbedInput]
    EMBED_INPUT_DOCUMENT: _ClassVar[EmbedInput]
    EMBED_INPUT_QUERY: _ClassVar[EmbedInput]

class DenseKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DENSE_KIND_UNSPECIFIED: _ClassVar[DenseKind]
    DENSE_KIND_AUTO: _ClassVar[DenseKind]
    DENSE_KIND_FLAT: _ClassVar[DenseKind]
    DENSE_KIND_HNSW: _ClassVar[DenseKind]
    DENSE_KIND_FAISS: _ClassVar[DenseKind]
    DENSE_KIND_GPU: _ClassVar[DenseKind]

class ExpansionMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPANSION_METHOD_UNSPECIFIED: _ClassVar[ExpansionMethod]
    EXPANSION_METHOD_QUESTIONS: _ClassVar[ExpansionMethod]
    EXPANSION_METHOD_REWRITES: _ClassVar[ExpansionMethod]

class ExpansionUse(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPANSION_USE_UNSPECIFIED: _ClassVar[ExpansionUse]
    EXPANSION_USE_FUSE: _ClassVar[ExpansionUse]
    EXPANSION_USE_VECTORS: _ClassVar[ExpansionUse]
LEG_UNSPECIFIED: Leg
LEG_DENSE: Leg
LEG_SPARSE: Leg
LEG_BM25: Leg
LEG_MULTI: Leg
ACKNOWLEDGEMENT_STATUS_UNSPECIFIED: AcknowledgementStatus
ACKNOWLEDGEMENT_STATUS_ADDED: AcknowledgementStatus
ACKNOWLEDGEMENT_STATUS_UPDATED: AcknowledgementStatus
ACKNOWLEDGEMENT_STATUS_UNCHANGED: AcknowledgementStatus
ACKNOWLEDGEMENT_STATUS_FAILED: AcknowledgementStatus
MODE_UNSPECIFIED: Mode
MODE_HYBRID: Mode
MODE_DENSE: Mode
MODE_SPARSE: Mode
MODE_BM25: Mode
MODE_MULTI: Mode
FUSION_UNSPECIFIED: Fusion
FUSION_CONVEX: Fusion
FUSION_RRF: Fusion
FUSION_DBSF: Fusion
RESULT_FIELD_UNSPECIFIED: ResultField
RESULT_FIELD_TITLE: ResultField
RESULT_FIELD_METADATA: ResultField
RESULT_FIELD_SCORE_DETAIL: ResultField
RESULT_FIELD_PLAN: ResultField
RESULT_FIELD_TIMINGS_MS: ResultField
QUERY_EXPANSION_METHOD_UNSPECIFIED: QueryExpansionMethod
QUERY_EXPANSION_METHOD_HYDE: QueryExpansionMethod
QUERY_EXPANSION_METHOD_THOUGHTS: QueryExpansionMethod
QUERY_EXPANSION_METHOD_REWRITES: QueryExpansionMethod
EMBED_INPUT_UNSPECIFIED: EmbedInput
EMBED_INPUT_DOCUMENT: EmbedInput
EMBED_INPUT_QUERY: EmbedInput
DENSE_KIND_UNSPECIFIED: DenseKind
DENSE_KIND_AUTO: DenseKind
DENSE_KIND_FLAT: DenseKind
DENSE_KIND_HNSW: DenseKind
DENSE_KIND_FAISS: DenseKind
DENSE_KIND_GPU: DenseKind
EXPANSION_METHOD_UNSPECIFIED: ExpansionMethod
EXPANSION_METHOD_QUESTIONS: ExpansionMethod
EXPANSION_METHOD_REWRITES: ExpansionMethod
EXPANSION_USE_UNSPECIFIED: ExpansionUse
EXPANSION_USE_FUSE: ExpansionUse
EXPANSION_USE_VECTORS: ExpansionUse

class Value(_message.Message):
    __slots__ = ("string_value", "int_value", "double_value", "bool_value", "list_value", "map_value", "null_value")
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    LIST_VALUE_FIELD_NUMBER: _ClassVar[int]
    MAP_VALUE_FIELD_NUMBER: _ClassVar[int]
    NULL_VALUE_FIELD_NUMBER: _ClassVar[int]
    string_value: str
    int_value: int
    double_value: float
    bool_value: bool
    list_value: ValueList
    map_value: ValueMap
    null_value: _struct_pb2.NullValue
    def __init__(self, string_value: _Optional[str] = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., bool_value: _Optional[bool] = ..., list_value: _Optional[_Union[ValueList, _Mapping]] = ..., map_value: _Optional[_Union[ValueMap, _Mapping]] = ..., null_value: _Optional[_Union[_struct_pb2.NullValue, str]] = ...) -> None: ...

class ValueList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class ValueMap(_message.Message):
    __slots__ = ("values",)
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.MessageMap[str, Value]
    def __init__(self, values: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class SparseVector(_message.Message):
    __slots__ = ("ids", "weights")
    IDS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    weights: bytes
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., weights: _Optional[bytes] = ...) -> None: ...

class TokenVectors(_message.Message):
    __slots__ = ("dim", "values")
    DIM_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    dim: int
    values: bytes
    def __init__(self, dim: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...

class Document(_message.Message):
    __slots__ = ("doc_id", "title", "text", "metadata", "vector", "sparse", "boundaries", "multi")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    DOC_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    SPARSE_FIELD_NUMBER: _ClassVar[int]
    BOUNDARIES_FIELD_NUMBER: _ClassVar[int]
    MULTI_FIELD_NUMBER: _ClassVar[int]
    doc_id: str
    title: str
    text: str
    metadata: _containers.MessageMap[str, Value]
    vector: bytes
    sparse: SparseVector
    boundaries: _containers.RepeatedScalarFieldContainer[int]
    multi: TokenVectors
    def __init__(self, doc_id: _Optional[str] = ..., title: _Optional[str] = ..., text: _Optional[str] = ..., metadata: _Optional[_Mapping[str, Value]] = ..., vector: _Optional[bytes] = ..., sparse: _Optional[_Union[SparseVector, _Mapping]] = ..., boundaries: _Optional[_Iterable[int]] = ..., multi: _Optional[_Union[TokenVectors, _Mapping]] = ...) -> None: ...

class Coverage(_message.Message):
    __slots__ = ("read", "embedded", "dropped", "reused", "generated")
    READ_FIELD_NUMBER: _ClassVar[int]
    EMBEDDED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    REUSED_FIELD_NUMBER: _ClassVar[int]
    GENERATED_FIELD_NUMBER: _ClassVar[int]
    read: int
    embedded: int
    dropped: int
    reused: int
    generated: int
    def __init__(self, read: _Optional[int] = ..., embedded: _Optional[int] = ..., dropped: _Optional[int] = ..., reused: _Optional[int] = ..., generated: _Optional[int] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("doc_id", "status", "passages", "tokens", "sequence", "error")
    DOC_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    doc_id: str
    status: AcknowledgementStatus
    passages: int
    tokens: Coverage
    sequence: int
    error: str
    def __init__(self, doc_id: _Optional[str] = ..., status: _Optional[_Union[AcknowledgementStatus, str]] = ..., passages: _Optional[int] = ..., tokens: _Optional[_Union[Coverage, _Mapping]] = ..., sequence: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class UpsertRequest(_message.Message):
    __slots__ = ("collection", "documents")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    documents: _containers.RepeatedCompositeFieldContainer[Document]
    def __init__(self, collection: _Optional[str] = ..., documents: _Optional[_Iterable[_Union[Document, _Mapping]]] = ...) -> None: ...

class UpsertResponse(_message.Message):
    __slots__ = ("acknowledgements",)
    ACKNOWLEDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    acknowledgements: _containers.RepeatedCompositeFieldContainer[Acknowledgement]
    def __init__(self, acknowledgements: _Optional[_Iterable[_Union[Acknowledgement, _Mapping]]] = ...) -> None: ...

class IngestRequest(_message.Message):
    __slots__ = ("start", "documents")
    START_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    start: IngestStart
    documents: IngestDocuments
    def __init__(self, start: _Optional[_Union[IngestStart, _Mapping]] = ..., documents: _Optional[_Union[IngestDocuments, _Mapping]] = ...) -> None: ...

class IngestStart(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: str
    def __init__(self, collection: _Optional[str] = ...) -> None: ...

class IngestDocuments(_message.Message):
    __slots__ = ("documents",)
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[Document]
    def __init__(self, documents: _Optional[_Iterable[_Union[Document, _Mapping]]] = ...) -> None: ...

class IngestResponse(_message.Message):
    __slots__ = ("acknowledgements",)
    ACKNOWLEDGEMENTS_FIELD_NUMBER: _ClassVar[int]
    acknowledgements: _containers.RepeatedCompositeFieldContainer[Acknowledgement]
    def __init__(self, acknowledgements: _Optional[_Iterable[_Union[Acknowledgement, _Mapping]]] = ...) -> None: ...

class DocIds(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("collection", "ids", "filter", "params")
    class ParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    ids: DocIds
    filter: str
    params: _containers.MessageMap[str, Value]
    def __init__(self, collection: _Optional[str] = ..., ids: _Optional[_Union[DocIds, _Mapping]] = ..., filter: _Optional[str] = ..., params: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: int
    def __init__(self, deleted: _Optional[int] = ...) -> None: ...

class UpdateMetadataRequest(_message.Message):
    __slots__ = ("collection", "doc_id", "changes", "replace")
    class ChangesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    DOC_ID_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    collection: str
    doc_id: str
    changes: _containers.MessageMap[str, Value]
    replace: bool
    def __init__(self, collection: _Optional[str] = ..., doc_id: _Optional[str] = ..., changes: _Optional[_Mapping[str, Value]] = ..., replace: _Optional[bool] = ...) -> None: ...

class UpdateMetadataResponse(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("collection", "doc_ids", "vectors")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    DOC_IDS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    doc_ids: _containers.RepeatedScalarFieldContainer[str]
    vectors: bool
    def __init__(self, collection: _Optional[str] = ..., doc_ids: _Optional[_Iterable[str]] = ..., vectors: _Optional[bool] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("lookups",)
    LOOKUPS_FIELD_NUMBER: _ClassVar[int]
    lookups: _containers.RepeatedCompositeFieldContainer[Lookup]
    def __init__(self, lookups: _Optional[_Iterable[_Union[Lookup, _Mapping]]] = ...) -> None: ...

class Lookup(_message.Message):
    __slots__ = ("document",)
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    document: Document
    def __init__(self, document: _Optional[_Union[Document, _Mapping]] = ...) -> None: ...

class ScrollRequest(_message.Message):
    __slots__ = ("collection", "filter", "params", "limit", "after")
    class ParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: str
    params: _containers.MessageMap[str, Value]
    limit: int
    after: str
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[str] = ..., params: _Optional[_Mapping[str, Value]] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ScrollResponse(_message.Message):
    __slots__ = ("documents", "next_after")
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[Document]
    next_after: str
    def __init__(self, documents: _Optional[_Iterable[_Union[Document, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

class CountRequest(_message.Message):
    __slots__ = ("collection", "filter", "params")
    class ParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    collection: str
    filter: str
    params: _containers.MessageMap[str, Value]
    def __init__(self, collection: _Optional[str] = ..., filter: _Optional[str] = ..., params: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class CountResponse(_message.Message):
    __slots__ = ("count",)
    COUNT_FIELD_NUMBER: _ClassVar[int]
    count: int
    def __init__(self, count: _Optional[int] = ...) -> None: ...

class Query(_message.Message):
    __slots__ = ("text", "vector", "sparse", "mode", "limit", "offset", "filter", "params", "fusion", "weights", "depth", "recall_target", "exact", "passages", "score_threshold", "explain", "multi", "rerank", "task", "expansion", "examples", "fields")
    class ParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    TEXT_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    SPARSE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    FUSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    RECALL_TARGET_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    MULTI_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    EXPANSION_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    text: str
    vector: bytes
    sparse: SparseVector
    mode: Mode
    limit: int
    offset: int
    filter: str
    params: _containers.MessageMap[str, Value]
    fusion: Fusion
    weights: LegWeights
    depth: LegDepths
    recall_target: float
    exact: bool
    passages: int
    score_threshold: float
    explain: bool
    multi: TokenVectors
    rerank: int
    task: str
    expansion: QueryExpansion
    examples: _containers.RepeatedCompositeFieldContainer[Example]
    fields: ResultFields
    def __init__(self, text: _Optional[str] = ..., vector: _Optional[bytes] = ..., sparse: _Optional[_Union[SparseVector, _Mapping]] = ..., mode: _Optional[_Union[Mode, str]] = ..., limit: _Optional[int] = ..., offset: _Optional[int] = ..., filter: _Optional[str] = ..., params: _Optional[_Mapping[str, Value]] = ..., fusion: _Optional[_Union[Fusion, str]] = ..., weights: _Optional[_Union[LegWeights, _Mapping]] = ..., depth: _Optional[_Union[LegDepths, _Mapping]] = ..., recall_target: _Optional[float] = ..., exact: _Optional[bool] = ..., passages: _Optional[int] = ..., score_threshold: _Optional[float] = ..., explain: _Optional[bool] = ..., multi: _Optional[_Union[TokenVectors, _Mapping]] = ..., rerank: _Optional[int] = ..., task: _Optional[str] = ..., expansion: _Optional[_Union[QueryExpansion, _Mapping]] = ..., examples: _Optional[_Iterable[_Union[Example, _Mapping]]] = ..., fields: _Optional[_Union[ResultFields, _Mapping]] = ...) -> None: ...

class ResultFields(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[ResultField]
    def __init__(self, values: _Optional[_Iterable[_Union[ResultField, str]]] = ...) -> None: ...

class QueryExpansion(_message.Message):
    __slots__ = ("method", "n", "weight")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    method: QueryExpansionMethod
    n: int
    weight: float
    def __init__(self, method: _Optional[_Union[QueryExpansionMethod, str]] = ..., n: _Optional[int] = ..., weight: _Optional[float] = ...) -> None: ...

class Example(_message.Message):
    __slots__ = ("query", "passage")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    PASSAGE_FIELD_NUMBER: _ClassVar[int]
    query: str
    passage: str
    def __init__(self, query: _Optional[str] = ..., passage: _Optional[str] = ...) -> None: ...

class LegWeights(_message.Message):
    __slots__ = ("values",)
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.ScalarMap[str, float]
    def __init__(self, values: _Optional[_Mapping[str, float]] = ...) -> None: ...

class LegDepths(_message.Message):
    __slots__ = ("values",)
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.ScalarMap[str, int]
    def __init__(self, values: _Optional[_Mapping[str, int]] = ...) -> None: ...

class QueryRequest(_message.Message):
    __slots__ = ("collection", "query")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    collection: str
    query: Query
    def __init__(self, collection: _Optional[str] = ..., query: _Optional[_Union[Query, _Mapping]] = ...) -> None: ...

class QueryResponse(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: QueryResult
    def __init__(self, result: _Optional[_Union[QueryResult, _Mapping]] = ...) -> None: ...

class QueryBatchRequest(_message.Message):
    __slots__ = ("collection", "queries")
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    collection: str
    queries: _containers.RepeatedCompositeFieldContainer[Query]
    def __init__(self, collection: _Optional[str] = ..., queries: _Optional[_Iterable[_Union[Query, _Mapping]]] = ...) -> None: ...

class QueryBatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[QueryResult]
    def __init__(self, results: _Optional[_Iterable[_Union[QueryResult, _Mapping]]] = ...) -> None: ...

class QueryResult(_message.Message):
    __slots__ = ("hits", "timings_ms", "plan")
    class TimingsMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class PlanEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    HITS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_MS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    timings_ms: _containers.ScalarMap[str, float]
    plan: _containers.MessageMap[str, Value]
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., timings_ms: _Optional[_Mapping[str, float]] = ..., plan: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("doc_id", "score", "title", "metadata", "passages", "score_detail")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    DOC_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    SCORE_DETAIL_FIELD_NUMBER: _ClassVar[int]
    doc_id: str
    score: float
    title: str
    metadata: _containers.MessageMap[str, Value]
    passages: _containers.RepeatedCompositeFieldContainer[PassageHit]
    score_detail: ScoreDetail
    def __init__(self, doc_id: _Optional[str] = ..., score: _Optional[float] = ..., title: _Optional[str] = ..., metadata: _Optional[_Mapping[str, Value]] = ..., passages: _Optional[_Iterable[_Union[PassageHit, _Mapping]]] = ..., score_detail: _Optional[_Union[ScoreDetail, _Mapping]] = ...) -> None: ...

class PassageHit(_message.Message):
    __slots__ = ("text", "start", "end", "score")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    text: str
    start: int
    end: int
    score: float
    def __init__(self, text: _Optional[str] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class ScoreDetail(_message.Message):
    __slots__ = ("dense", "sparse", "bm25", "ranks", "weights", "terms", "multi", "rerank", "fused")
    class RanksEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    DENSE_FIELD_NUMBER: _ClassVar[int]
    SPARSE_FIELD_NUMBER: _ClassVar[int]
    BM25_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    MULTI_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    FUSED_FIELD_NUMBER: _ClassVar[int]
    dense: float
    sparse: float
    bm25: float
    ranks: _containers.ScalarMap[str, int]
    weights: _containers.ScalarMap[str, float]
    terms: _containers.RepeatedCompositeFieldContainer[TermContribution]
    multi: float
    rerank: float
    fused: float
    def __init__(self, dense: _Optional[float] = ..., sparse: _Optional[float] = ..., bm25: _Optional[float] = ..., ranks: _Optional[_Mapping[str, int]] = ..., weights: _Optional[_Mapping[str, float]] = ..., terms: _Optional[_Iterable[_Union[TermContribution, _Mapping]]] = ..., multi: _Optional[float] = ..., rerank: _Optional[float] = ..., fused: _Optional[float] = ...) -> None: ...

class TermContribution(_message.Message):
    __slots__ = ("term", "leg", "contribution", "expansion")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEG_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    EXPANSION_FIELD_NUMBER: _ClassVar[int]
    term: str
    leg: Leg
    contribution: float
    expansion: bool
    def __init__(self, term: _Optional[str] = ..., leg: _Optional[_Union[Leg, str]] = ..., contribution: _Optional[float] = ..., expansion: _Optional[bool] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("texts", "input", "task")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    input: EmbedInput
    task: str
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., input: _Optional[_Union[EmbedInput, str]] = ..., task: _Optional[str] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("embeddings",)
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    embeddings: _containers.RepeatedCompositeFieldContainer[Embedding]
    def __init__(self, embeddings: _Optional[_Iterable[_Union[Embedding, _Mapping]]] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("dense", "sparse", "landmarks", "tokens")
    DENSE_FIELD_NUMBER: _ClassVar[int]
    SPARSE_FIELD_NUMBER: _ClassVar[int]
    LANDMARKS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    dense: bytes
    sparse: SparseTerms
    landmarks: _containers.RepeatedCompositeFieldContainer[Landmark]
    tokens: int
    def __init__(self, dense: _Optional[bytes] = ..., sparse: _Optional[_Union[SparseTerms, _Mapping]] = ..., landmarks: _Optional[_Iterable[_Union[Landmark, _Mapping]]] = ..., tokens: _Optional[int] = ...) -> None: ...

class SparseTerms(_message.Message):
    __slots__ = ("weights",)
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    weights: _containers.ScalarMap[str, float]
    def __init__(self, weights: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Landmark(_message.Message):
    __slots__ = ("start", "end", "vector")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    vector: bytes
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., vector: _Optional[bytes] = ...) -> None: ...

class CreateCollectionRequest(_message.Message):
    __slots__ = ("name", "dim", "sparse", "language", "dense_kind", "weights", "multi", "multi_dim", "task", "expansion")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    SPARSE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    DENSE_KIND_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    MULTI_FIELD_NUMBER: _ClassVar[int]
    MULTI_DIM_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    EXPANSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    dim: int
    sparse: bool
    language: str
    dense_kind: DenseKind
    weights: LegWeights
    multi: bool
    multi_dim: int
    task: str
    expansion: Expansion
    def __init__(self, name: _Optional[str] = ..., dim: _Optional[int] = ..., sparse: _Optional[bool] = ..., language: _Optional[str] = ..., dense_kind: _Optional[_Union[DenseKind, str]] = ..., weights: _Optional[_Union[LegWeights, _Mapping]] = ..., multi: _Optional[bool] = ..., multi_dim: _Optional[int] = ..., task: _Optional[str] = ..., expansion: _Optional[_Union[Expansion, _Mapping]] = ...) -> None: ...

class Expansion(_message.Message):
    __slots__ = ("method", "n", "use", "bm25")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    BM25_FIELD_NUMBER: _ClassVar[int]
    method: ExpansionMethod
    n: int
    use: ExpansionUse
    bm25: bool
    def __init__(self, method: _Optional[_Union[ExpansionMethod, str]] = ..., n: _Optional[int] = ..., use: _Optional[_Union[ExpansionUse, str]] = ..., bm25: _Optional[bool] = ...) -> None: ...

class CreateCollectionResponse(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: CollectionInfo
    def __init__(self, collection: _Optional[_Union[CollectionInfo, _Mapping]] = ...) -> None: ...

class GetCollectionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetCollectionResponse(_message.Message):
    __slots__ = ("collection",)
    COLLECTION_FIELD_NUMBER: _ClassVar[int]
    collection: CollectionInfo
    def __init__(self, collection: _Optional[_Union[CollectionInfo, _Mapping]] = ...) -> None: ...

class ListCollectionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCollectionsResponse(_message.Message):
    __slots__ = ("collections",)
    COLLECTIONS_FIELD_NUMBER: _ClassVar[int]
    collections: _containers.RepeatedCompositeFieldContainer[CollectionInfo]
    def __init__(self, collections: _Optional[_Iterable[_Union[CollectionInfo, _Mapping]]] = ...) -> None: ...

class DropCollectionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DropCollectionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCollectionStatsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetCollectionStatsResponse(_message.Message):
    __slots__ = ("stats",)
    STATS_FIELD_NUMBER: _ClassVar[int]
    stats: CollectionStats
    def __init__(self, stats: _Optional[_Union[CollectionStats, _Mapping]] = ...) -> None: ...

class OptimizeCollectionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class OptimizeCollectionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CollectionInfo(_message.Message):
    __slots__ = ("name", "model", "fingerprint", "dim", "coarse_dim", "legs", "language", "weights", "documents", "passages", "sequence", "multi_dim", "dtype", "task", "expansion", "generator")
    class WeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    COARSE_DIM_FIELD_NUMBER: _ClassVar[int]
    LEGS_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    MULTI_DIM_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    EXPANSION_FIELD_NUMBER: _ClassVar[int]
    GENERATOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    fingerprint: str
    dim: int
    coarse_dim: int
    legs: _containers.RepeatedScalarFieldContainer[Leg]
    language: str
    weights: _containers.ScalarMap[str, float]
    documents: int
    passages: int
    sequence: int
    multi_dim: int
    dtype: str
    task: str
    expansion: Expansion
    generator: str
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., dim: _Optional[int] = ..., coarse_dim: _Optional[int] = ..., legs: _Optional[_Iterable[_Union[Leg, str]]] = ..., language: _Optional[str] = ..., weights: _Optional[_Mapping[str, float]] = ..., documents: _Optional[int] = ..., passages: _Optional[int] = ..., sequence: _Optional[int] = ..., multi_dim: _Optional[int] = ..., dtype: _Optional[str] = ..., task: _Optional[str] = ..., expansion: _Optional[_Union[Expansion, _Mapping]] = ..., generator: _Optional[str] = ...) -> None: ...

class RecallEstimate(_message.Message):
    __slots__ = ("recall", "lower", "sample", "asked")
    RECALL_FIELD_NUMBER: _ClassVar[int]
    LOWER_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    recall: float
    lower: float
    sample: int
    asked: int
    def __init__(self, recall: _Optional[float] = ..., lower: _Optional[float] = ..., sample: _Optional[int] = ..., asked: _Optional[int] = ...) -> None: ...

class SegmentStats(_message.Message):
    __slots__ = ("name", "passages", "deleted", "dense_kind", "size_bytes", "multi_bytes", "recall")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSAGES_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    DENSE_KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MULTI_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECALL_FIELD_NUMBER: _ClassVar[int]
    name: str
    passages: int
    deleted: int
    dense_kind: str
    size_bytes: int
    multi_bytes: int
    recall: RecallEstimate
    def __init__(self, name: _Optional[str] = ..., passages: _Optional[int] = ..., deleted: _Optional[int] = ..., dense_kind: _Optional[str] = ..., size_bytes: _Optional[int] = ..., multi_bytes: _Optional[int] = ..., recall: _Optional[_Union[RecallEstimate, _Mapping]] = ...) -> None: ...

class CollectionStats(_message.Message):
    __slots__ = ("info", "segments", "store_bytes", "tokens")
    INFO_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    STORE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    info: CollectionInfo
    segments: _containers.RepeatedCompositeFieldContainer[SegmentStats]
    store_bytes: int
    tokens: Coverage
    def __init__(self, info: _Optional[_Union[CollectionInfo, _Mapping]] = ..., segments: _Optional[_Iterable[_Union[SegmentStats, _Mapping]]] = ..., store_bytes: _Optional[int] = ..., tokens: _Optional[_Union[Coverage, _Mapping]] = ...) -> None: ...

class InfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InfoResponse(_message.Message):
    __slots__ = ("version", "model", "fingerprint", "device", "dim", "has_sparse", "max_passage_tokens", "max_message_bytes", "multi_dim", "reranker")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    HAS_SPARSE_FIELD_NUMBER: _ClassVar[int]
    MAX_PASSAGE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MULTI_DIM_FIELD_NUMBER: _ClassVar[int]
    RERANKER_FIELD_NUMBER: _ClassVar[int]
    version: str
    model: str
    fingerprint: str
    device: str
    dim: int
    has_sparse: bool
    max_passage_tokens: int
    max_message_bytes: int
    multi_dim: int
    reranker: str
    def __init__(self, version: _Optional[str] = ..., model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., device: _Optional[str] = ..., dim: _Optional[int] = ..., has_sparse: _Optional[bool] = ..., max_passage_tokens: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., multi_dim: _Optional[int] = ..., reranker: _Optional[str] = ...) -> None: ...
