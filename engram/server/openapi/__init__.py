"""The document that describes what is served (OpenAPI 3.1), and the page that shows it.

- :mod:`engram.server.openapi.described` says what each operation takes and answers,
- :mod:`engram.server.openapi.parameters` what each parameter may be,
- :mod:`engram.server.openapi.schemas` what bodies and answers look like, from their structs,
- :mod:`engram.server.openapi.document` puts them together with the tables that routes are made of.
"""
