"""A server on loopback that answers at once, in a process of its own: `url` starts it.

It ends with the process that has started it.
"""

from __future__ import annotations

import functools
import socketserver
import subprocess
import sys
import threading

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n19.9"


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        asked = b""
        while part := self.request.recv(65536):
            asked += part
            while b"\r\n\r\n" in asked:
                asked = asked.partition(b"\r\n\r\n")[2]
                self.request.sendall(ANSWER)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@functools.cache
def url() -> str:
    """Where the server of this process listens."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.loopback"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    return child.stdout.readline().strip()


if __name__ == "__main__":
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}/price", flush=True)
        sys.stdin.read()  # until nobody can write to it any more
        server.shutdown()
