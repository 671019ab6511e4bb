"""What a provider may raise. Nothing else leaves a provider."""

from __future__ import annotations


class ProviderError(Exception):
    """The outside said no. `permanent`: the same call can never succeed; otherwise it is worth a retry.

    `code` is a stable word for programs (`docker_down`, `port_taken`, `not_ready` …); the message is for the operator.
    """

    def __init__(self, message: str, *, permanent: bool = False, code: str = "provider_error") -> None:
        super().__init__(message)
        self.message, self.permanent, self.code = message, permanent, code
