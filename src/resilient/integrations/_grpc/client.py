"""The arguments of both kinds of client, and what both do with an answer."""

from __future__ import annotations

from typing import Any, Final, Literal

from resilient._policies.common.policy import Policy
from resilient._typing import Default
from resilient.integrations._client.engine import Client
from resilient.integrations._client.exchange import Held
from resilient.integrations._client.settings import Methods, check_settings
from resilient.integrations._grpc.family import GrpcFamily, code_of, is_own
from resilient.integrations._grpc.rpc import ATTEMPT
from resilient.integrations.http import BadStatus, Wire

WIRE: Final = Wire(timeout=None, attempt=ATTEMPT, should_retry=None)
"""gRPC carries time limits and hints by itself."""


class GrpcClient:
    """What stands behind the interceptors of one list."""

    def __init__(
        self,
        refused: type[Exception],
        *,
        policy: Policy | Literal[Default.DEFAULT] | None,
        failures: object,
        idempotent: Methods,
        max_retry_after: float,
        name: str | None,
    ) -> None:
        family = GrpcFamily(refused)
        self.settings = check_settings(
            family,
            policy=policy,
            failures=failures,
            idempotent=idempotent,
            max_retry_after=max_retry_after,
            wire=WIRE,
            name=name,
        )
        self.engine = Client(family, self.settings)

    def end(self, held: Held, error: Any) -> None:
        """A call that was under way is over, by *error* if there is one; only once."""
        code = code_of(error)
        if is_own(error):
            held.ignore()
        elif code is None:  # there is no error, or it is a cancellation of the caller's
            held.end(error)
        elif self.settings.is_failure(code):
            held.end(BadStatus(code, response=error))
        else:
            held.end()
