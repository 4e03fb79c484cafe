"""What a competent user writes first: FastAPI, the model in memory, one photo a request.

    python -m benchmarks.peer_servers.naive plain --port 9000

The model computes in the thread that loaded it, which is the event loop's: requests wait for each
other in their sockets, and no second team of threads disturbs PyTorch. A route in a pool of
threads would be slower. `transformers` serves Hugging Face's model in the same way.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, UploadFile

from models.torchvision_compat import import_torchvision

__all__ = ["build_app"]


def build_app(caption: Callable[[Sequence[bytes]], list[str]]) -> FastAPI:
    """Serve a captioner at `/caption`."""
    app = FastAPI()

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/caption")
    async def caption_image(image: Annotated[UploadFile, File()]) -> dict[str, str]:
        return {"caption": caption([await image.read()])[0]}

    return app


def main() -> None:
    """Load the model, and serve it until the process is ended."""
    parser = argparse.ArgumentParser(description="Serve a captioner, plainly.")
    parser.add_argument("kind", choices=("plain", "transformers"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="glimpse")
    parser.add_argument("--beam-size", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=12, help="of a caption of transformers")
    asked = parser.parse_args()
    if asked.kind == "plain":
        from benchmarks.peer_servers.plain_model import PlainCaptioner

        caption = PlainCaptioner(asked.model, asked.beam_size).caption
    else:
        import_torchvision()  # which transformers imports, and cannot by itself in every setup
        from benchmarks.peer_servers.transformers_model import TransformersCaptioner

        caption = TransformersCaptioner(asked.model, asked.beam_size, asked.tokens).caption
    uvicorn.run(build_app(caption), host="127.0.0.1", port=asked.port, log_level="warning")


if __name__ == "__main__":
    main()
