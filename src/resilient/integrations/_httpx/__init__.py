"""httpx, and httpx2, which continues it: two libraries with one interface, so one transport.

Nothing here imports either of them: `httpx` and `httpx2` beside this folder say which one it is.
"""
