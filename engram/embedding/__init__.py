"""Embedders: what turns texts into vectors, pluggable and pinned per space by name.

protocol   what an embedder must do
static     the default: a table of token vectors, works offline right after install
minilm     a sentence encoder that is installed beside it on request
packaged   the files of both, found and pinned
openai     models of a server that speaks OpenAI's protocol
summariser what beliefs say, by a model of such a server, where the environment asks for it
post       its requests: one event loop for the process, timeouts, tries
registry   from a space's embedding spec to its embedder
"""
