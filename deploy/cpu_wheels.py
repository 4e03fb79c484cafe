"""Print where pip should also look for wheels: PyTorch's CPU wheels, where no GPU could use others.

pip's own PyTorch for Linux carries several GB of CUDA libraries. Prints nothing where there is an
NVIDIA GPU, on other systems, and where the index does not answer within three seconds: pip then
takes its own. An address in PIP_EXTRA_INDEX_URL is printed as it is. Needs Python alone.

    export PIP_EXTRA_INDEX_URL=$(python deploy/cpu_wheels.py)
"""

import os
import platform
import shutil
import sys
import threading
from urllib.request import Request, urlopen

INDEX = "https://download.pytorch.org/whl/cpu"
_SECONDS = 3.0


def choose(index: str = INDEX) -> str:
    """Give the address of an index, or ""."""
    own = os.environ.get("PIP_EXTRA_INDEX_URL", "")
    if own:
        return own
    is_linux = platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64")
    if not is_linux or shutil.which("nvidia-smi") or not _answers(index):
        return ""
    return index


def _answers(index: str) -> bool:
    """Tell whether an index answers in time, its name's lookup included."""
    found: list[int] = []

    def ask() -> None:
        try:
            with urlopen(Request(f"{index}/torch/", method="HEAD"), timeout=_SECONDS) as answer:
                found.append(answer.status)
        except (OSError, ValueError):
            return  # whatever it is, pip takes its own

    thread = threading.Thread(target=ask, daemon=True)  # a lookup that hangs keeps nobody
    thread.start()
    thread.join(_SECONDS)
    return found == [200]


if __name__ == "__main__":
    print(choose())
    sys.exit(0)
