"""Three services in a row, each in a process of its own, and a story in which the last one fails.

::

    you ── HTTP ──▶ edge (FastAPI) ── gRPC ──▶ middle (grpc.aio) ── HTTP ──▶ leaf (Starlette)

``python -m examples.three_services`` plays the story; README.md says what to look at.
"""
