"""The HTTP surface: it translates requests into calls on a space and answers into JSON.

- :mod:`engram.server.resolver` decides which space a request means; :mod:`engram.server.query`,
  :mod:`engram.server.wire` and :mod:`engram.server.problems` are the shapes of parameters, bodies
  and errors. All of these are pure.
- :mod:`engram.server.calls` reads a request in full, :mod:`engram.server.rest` says what each route
  does, :mod:`engram.server.app` joins them (and :mod:`engram.server.middleware`) into an ASGI
  application.
- :mod:`engram.server.protocol` and :mod:`engram.server.serve` are the process: socket, signals,
  start and end.
"""
