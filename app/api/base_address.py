"""Under which address the request that is answered reached the service. Knows no routes.

Examples and problem types are written for `http://localhost:8000`; what a client reads names the
address that it used itself.
"""

from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["EXAMPLE_ADDRESS", "BaseAddress", "base_address_context"]

EXAMPLE_ADDRESS = "http://localhost:8000"


@dataclass(frozen=True, slots=True)
class BaseAddress:
    """The address of the service as a client sees it.

    url: scheme, host and root path, without a slash at the end.
    root_path: where a proxy shows the service on its host; empty, or begins with a slash.
    """

    url: str = EXAMPLE_ADDRESS
    root_path: str = ""

    def localize(self, text: str) -> str:
        """Put this address into examples."""
        return text.replace(EXAMPLE_ADDRESS, self.url)


_NOWHERE = BaseAddress()  # a frozen value: the one to share outside a request

base_address_context: ContextVar[BaseAddress] = ContextVar("base_address", default=_NOWHERE)
"""The address of the request that the running task answers."""
