"""The parts of the ASGI middleware: see `asgi` beside this folder."""
