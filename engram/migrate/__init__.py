"""Moving what is remembered into spaces: one shared space into many, and other stores' files.

A `Source` gives items, each with the spaces it goes to (`routing` decides that of a space's
memories; `jsonl`, `mcp` and `chroma` read files). `copying` looks at both sides, copies what is
missing and compares both sides again, with a `ledger` on disk in between, so that no more than a
page is in memory. Nothing is kept from one run to the next: what is done is seen by looking at the
targets, by ids and digests, so a run that was killed is simply run again.
"""
