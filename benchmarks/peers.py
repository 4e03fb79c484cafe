"""The service beside other ways to serve the same model: how many times their throughput it has.

    python -m benchmarks.peers [--seconds 75] [--clients 32] [--beam-size 3]

The same weights, photos, beam size and machine, in one run; only ratios are given, as figures of
two machines or two days cannot be compared. Each is a server in a process of its own, and gets the
same closed loop of clients in turns; in every round all have the same share of the time, each
round gives its own ratios, and their median counts.

    naive         FastAPI, PyTorch in eager float32, one photo a request, the beam search a loop
    litserve      LitServe with dynamic batching around the same PyTorch model
    transformers  Hugging Face's `generate` on a vision encoder-decoder of the same size, with
                  random weights and captions as long as ours
    unbatched     this service, with batching off

All are saturated, so what limits each is how much of the processors' time goes into the arithmetic,
and how well that is done: precision, memory layout, batches. The load generator takes its share of
the same processors, which makes every ratio a little smaller than it is. All servers stay in
memory, and are idle while another one has its turn.

The captions of `naive` and `litserve` must be those of our captioner in float32 on all photos, and
those of `unbatched` those of the service; the benchmark fails otherwise. `served as float32` tells
on how many photos the service, in the precision that it chose, says the same as in float32.
"""

import argparse
import asyncio
import importlib.util
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import httpx

from benchmarks.load_figures import median_ratios, whole_rate
from benchmarks.photos import photo_uploads, photos
from benchmarks.reports import ROOT, rounded, show, table
from benchmarks.soak.client import Outcome
from benchmarks.soak.load import Mix, closed_loop
from benchmarks.soak.server import SERVICE, Server, free_port, serving
from models.config import DecodingOptions
from models.loading import load_captioner
from models.preprocessing import DecodeLimits

OURS = "served"
PACKAGES = ("litserve", "transformers")
LEAST_ROUNDS, MOST_ROUNDS = 1, 3
WARM_PART = 0.15  # of the whole time
ROUND_SECONDS = 35.0
TIMEOUT_SECONDS = 120.0
UNBATCHED = {"GLIMPSE_MAX_BATCH_SIZE": "1", "GLIMPSE_MAX_BATCH_WAIT_SECONDS": "0"}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare ways to serve the same model.")
    parser.add_argument("--seconds", type=float, default=75.0, help="of load, for all together")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--beam-size", type=int, default=3)
    parser.add_argument("--model", default="glimpse")
    return parser.parse_args()


def missing_packages(names: Sequence[str] = PACKAGES) -> list[str]:
    """List those of the packages that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def captions_in_float32(model: str, beam_size: int) -> list[str]:
    """Caption all photos with our captioner, in the precision that the peers have."""
    captioner = load_captioner(ROOT / "weights", model, precision="float32")
    own = captioner.info.config.decoding.model_dump()
    options = DecodingOptions(**own | {"beam_size": beam_size, "num_captions": 1})
    images = [captioner.prepare(data, DecodeLimits()) for data in photos()]
    return [caption.best.text for caption in captioner.caption(images, options)]


def start_all(stack: ExitStack, asked: argparse.Namespace, tokens: int) -> dict[str, Server]:
    """Start every server, until the end of the stack."""
    options = ("--model", asked.model, "--beam-size", str(asked.beam_size))

    def program(module: str, *others: str) -> Server:
        port = free_port()
        place = ("--port", str(port))
        command = ("-m", f"benchmarks.peer_servers.{module}", *others, *place, *options)
        return stack.enter_context(serving(port, program=command))

    def service(settings: Mapping[str, str]) -> Server:
        settings = {"GLIMPSE_MODEL": asked.model, **settings}
        return stack.enter_context(serving(free_port(), settings, SERVICE))

    return {
        OURS: service({}),
        "unbatched": service(UNBATCHED),
        "naive": program("naive", "plain"),
        "litserve": program("batching"),
        "transformers": program("naive", "transformers", "--tokens", str(tokens)),
    }


def captions_of(server: Server, path: str) -> list[str]:
    """Have all photos captioned over HTTP, one after another."""
    with httpx.Client(
        base_url=f"http://127.0.0.1:{server.port}", timeout=TIMEOUT_SECONDS, trust_env=False
    ) as client:
        answers = [client.post(path, files={"image": data}) for data in photos()]
    return [str(answer.raise_for_status().json()["caption"]) for answer in answers]


def differing(captions: Sequence[str], reference: Sequence[str]) -> int:
    """Count the photos whose captions are not the same."""
    return sum(one != other for one, other in zip(captions, reference, strict=True))


def check_captions(
    captions: Mapping[str, Sequence[str]], reference: Sequence[str]
) -> dict[str, int]:
    """Count where each one's captions differ from what they must be.

    Raises RuntimeError where they do: it would not be the same work that is compared.
    """
    counts = {
        "naive": differing(captions["naive"], reference),
        "litserve": differing(captions["litserve"], reference),
        "unbatched": differing(captions["unbatched"], captions[OURS]),
    }
    wrong = {name: count for name, count in counts.items() if count}
    if wrong:
        raise RuntimeError(f"Different captions, so nothing can be compared: {wrong}.")
    return counts | {f"{OURS} as float32": differing(captions[OURS], reference)}


async def race(
    servers: Mapping[str, Server], path: str, *, clients: int, seconds: float
) -> list[dict[str, float]]:
    """Give the captions a second of each server, in every round."""
    mix = Mix(photo_uploads(), (), bad_share=0.0, hang_up_share=0.0, drawings=0.0, path=path)
    count = max(LEAST_ROUNDS, min(MOST_ROUNDS, int(seconds / ROUND_SECONDS)))
    turn = seconds * (1 - WARM_PART) / count / len(servers)
    warm = WARM_PART * seconds / len(servers)
    for server in servers.values():
        await closed_loop(server.port, mix, clients=4, seconds=warm)
    rounds = []
    for _ in range(count):
        found: dict[str, float] = {}
        for name, server in servers.items():
            outcomes: list[Outcome] = []
            await closed_loop(server.port, mix, clients=clients, seconds=turn, tell=outcomes.append)
            found[name] = whole_rate(outcomes)
        rounds.append(found)
    return rounds


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Start all, check their captions, load them, print the table, and give the document."""
    path = f"/caption?beam_size={asked.beam_size}"
    reference = captions_in_float32(asked.model, asked.beam_size)
    tokens = round(statistics.mean(len(caption.split()) + 1 for caption in reference))
    with ExitStack() as stack:
        servers = start_all(stack, asked, tokens)
        captions = {name: captions_of(server, path) for name, server in servers.items()}
        counts = check_captions(captions, reference)
        rounds = asyncio.run(race(servers, path, clients=asked.clients, seconds=asked.seconds))
    ratios = median_ratios(rounds, OURS)
    rows = [[name, show(value)] for name, value in ratios.items()]
    print(table(["ours as many times", f"{len(rounds)} round(s)"], rows), end="\n\n")
    rows = [[name, f"{count} of {len(reference)}"] for name, count in counts.items()]
    print(table(["captions", "differ"], rows))
    return {
        "benchmark": "peers",
        "beam_size": asked.beam_size,
        "clients": asked.clients,
        "throughput_vs": ratios,
        "rounds": [median_ratios([each], OURS) for each in rounds],
        "photos": len(reference),
        "captions_that_differ": counts,
    }


def main() -> None:
    """Measure, print the table, and end with the JSON document."""
    asked = arguments()
    missing = missing_packages()
    if missing:
        sys.exit(
            f"Not installed: {', '.join(missing)}. Install what the others are made of with "
            "`pip install -c constraints.txt -e '.[train,dev,bench]'`, or run `make bench`, which "
            "does so."
        )
    document = run(asked)
    sys.stdout.flush()
    print(json.dumps(rounded(document)))


if __name__ == "__main__":
    main()
