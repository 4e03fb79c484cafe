"""LitServe with dynamic batching around the same PyTorch model.

    python -m benchmarks.peer_servers.batching --port 9000

As LitServe's documentation has it: one process for HTTP, one that computes, which gathers up to 16
requests for up to 10 ms, as the service does by default. The encoder and each step of the beam
search run over the whole batch.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import cast

import litserve
from fastapi import Request, UploadFile

from benchmarks.peer_servers.plain_model import PlainCaptioner

_BATCH_SIZE = 16
_BATCH_WAIT_SECONDS = 0.01
_TIMEOUT_SECONDS = 120.0


class CaptionAPI(litserve.LitAPI):  # type: ignore[misc]
    """What LitServe runs in the process that computes."""

    def __init__(self, model: str, beam_size: int) -> None:
        super().__init__(
            max_batch_size=_BATCH_SIZE, batch_timeout=_BATCH_WAIT_SECONDS, api_path="/caption"
        )
        self._chosen = (model, beam_size)
        self._captioner: PlainCaptioner | None = None

    def setup(self, device: str) -> None:
        """Load the model, in the process that computes; `device` is the processor."""
        del device
        self._captioner = PlainCaptioner(*self._chosen)

    def decode_request(self, request: Request) -> bytes:
        """Give the bytes of the upload; of a form, LitServe hands over its fields alone."""
        form = cast(Mapping[str, UploadFile], request)
        return form["image"].file.read()

    def predict(self, files: Sequence[bytes]) -> list[str]:
        """Caption a batch."""
        if self._captioner is None:
            raise RuntimeError("The model is loaded before the first request.")
        return self._captioner.caption(files)

    def encode_response(self, output: str) -> dict[str, str]:
        """Answer as the service does, with the caption alone."""
        return {"caption": output}


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="Serve a captioner with LitServe.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="glimpse")
    parser.add_argument("--beam-size", type=int, default=3)
    asked = parser.parse_args()
    server = litserve.LitServer(
        CaptionAPI(asked.model, asked.beam_size),
        accelerator="cpu",
        healthcheck_path="/readyz",
        timeout=_TIMEOUT_SECONDS,
    )
    server.run(host="127.0.0.1", port=asked.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
