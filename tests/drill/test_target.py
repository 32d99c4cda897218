"""``--target``: somebody else's service, drilled by the proxy alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest

from resilient.drill import __main__ as command
from resilient.drill import faults
from resilient.drill.scenarios import Scenario
from tests.drill.drilling import SHORT, passing, together

pytestmark = pytest.mark.real_clock

SERVICE = """
import asyncio, ssl, sys

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            await asyncio.sleep(0.01)
            asked = b" /health?x=1 " in head.splitlines()[0] and b":%d\\r\\n" % port in head
            status = b"200 OK" if asked else b"404 Not Found"
            writer.write(b"HTTP/1.1 " + status + b"\\r\\ncontent-length: 0\\r\\n\\r\\n")
    except (asyncio.IncompleteReadError, OSError, ssl.SSLError):
        writer.close()

async def main():
    global port
    context = None
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, backlog=1000)
    port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@contextmanager
def service(*words: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A service in a process of its own: its port, and its process."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVICE, *words],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield int(process.stdout.readline()), process
        process.kill()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A certificate for localhost, made for this run, and its key, in one file."""
    if which("openssl") is None:
        pytest.skip("openssl is not installed")
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(file), "-out", str(file) + ".crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_text(file.read_text() + Path(str(file) + ".crt").read_text())
    return str(file)


def test_each_scenario_has_a_fault_that_leaves_the_targets_process_alone() -> None:
    assert set(faults.OF_TARGET) == set(Scenario)
    assert all(isinstance(fault, faults.BadWeather) for fault in faults.OF_TARGET.values())


@pytest.mark.every_drill
def test_targets_are_drilled_through_the_proxy_and_live_on(
    certificate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate + ".crt")
    with service() as (port, plain), service(certificate) as (tls_port, tls):
        url, tls_url = (
            f"http://localhost:{port}/health?x=1",
            f"https://localhost:{tls_port}/health?x=1",
        )
        words = ("slow", *SHORT, "--target", url)
        slow, flaky = together(words, ("flaky", *SHORT, "--target", tls_url))
        slow = passing(words, slow)
        assert plain.poll() is tls.poll() is None
    assert slow.code == 0, str(slow)
    assert "the proxy holds answers back" in slow.out
    assert f"to {url}," in slow.out
    assert flaky.verdicts()["lost calls"], str(flaky)
    assert flaky.client("bare")["errors"], "some were reset"
    assert "ServiceUnavailable" not in flaky.client("bare")["errors"], "TLS hides the words"


def test_a_target_that_is_not_well_is_not_drilled(capsys: pytest.CaptureFixture[str]) -> None:
    with service() as (port, _):
        assert command.drill(["--target", f"http://127.0.0.1:{port}/nothing"]) == 2
    err = capsys.readouterr().err
    assert "answered 404 before anything was broken; give --target a URL that answers 200" in err


def test_a_target_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.drill(["--target", "http://127.0.0.1:1/"]) == 2
    err = capsys.readouterr().err
    assert "no answer from http://127.0.0.1:1/ (ConnectError" in err
    assert "start the service, or correct --target" in err


def test_no_proxy_of_the_environment_stands_in_the_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(os.environ, "HTTP_PROXY", "http://127.0.0.1:1/")
    with service() as (port, _):
        assert command.drill(["--target", f"http://127.0.0.1:{port}/nothing"]) == 2
    assert "answered 404" in capsys.readouterr().err
