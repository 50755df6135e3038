"""The in-memory indexes of one space: columns over dense rows, one writer, readers without locks.

A row is one stored revision of a memory, numbered from 0 in the order of storing. Indexes only
grow: a row that was superseded or forgotten is dead in the live mask, which queries are handed.
Every index has the same shape. The space's single writer calls `extend`; a reader takes a `view`
at the moment it captures the row count and the live mask, and then computes without any lock while
the writer goes on. What a view answers depends on the rows alone, never on batch sizes or on when
parts were merged.

    columns     growing arrays and blobs, the material of all the others
    vectors     embeddings and their cosine with a query; the live mask
    tokens      text to terms, for every script
    postings    key -> ascending rows, in sorted runs of plain arrays
    lexicon     BM25 over postings
    attributes  tags, kind, source and metadata, for filters
    timeline    rows by time: since, until, expiry
    beliefs     what beliefs rest on, from either end
    links       weighted edges between memories, from either end
    uses        how often each memory was used, when last, and along with which others
    ids         a caller's id -> its latest row
"""
