"""One thread computes: however many models are loaded beside it, no other thread has a team of
OpenMP's, as with more threads than processors none of them waits actively."""

import json
import subprocess
import sys

import pytest

from app.core.settings import DEFAULT_MODEL
from tests.unit.repository import ROOT

THREADS = 2
OTHER_MODEL = "nic"

PROGRAM = """
import asyncio, json, os, sys, threading
from io import BytesIO
from PIL import Image

from app.core.metrics import Metrics
from app.core.settings import Settings
from app.engine.build import build_engine

def others():
    return len(os.listdir("/proc/self/task")) - len(threading.enumerate())

async def main():
    file = BytesIO()
    Image.new("RGB", (320, 240), (200, 80, 10)).save(file, format="JPEG")
    settings = Settings(compute_threads=int(sys.argv[1]), runtime="torch")
    engine = await build_engine(settings, Metrics()).start()
    await engine.warm_up()
    engine.check_ready()
    for name in sys.argv[2:]:
        model = await engine.model(name)
        await engine.caption(model, file.getvalue(), model.decoding)
    ours = sorted(thread.name for thread in threading.enumerate())
    print(json.dumps({"team": others(), "ours": ours}))
    await engine.stop(drain_seconds=5.0)

asyncio.run(main())
"""


ALONE = """
import os, sys, torch
torch.set_num_threads(int(sys.argv[1]))
image, kernel = torch.ones(1, 192, 28, 28), torch.ones(192, 192, 3, 3)
torch.nn.functional.conv2d(image, kernel, padding=1)
print(len(os.listdir("/proc/self/task")) - 1)
"""


def output(program: str, *arguments: str) -> str:
    """The last line that a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(THREADS), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_engine_that_loads_several_models_has_no_more_helping_threads_than_one_that_computes() -> (
    None
):
    seen = json.loads(output(PROGRAM, DEFAULT_MODEL, OTHER_MODEL))
    assert any(name.startswith("load") for name in seen["ours"])  # else nothing is shown
    assert seen["team"] <= int(output(ALONE)), seen
