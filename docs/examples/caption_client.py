"""A photo's captions, and a drawing of where the model looked, with Glimpse's own client.

Usage: python caption_client.py PHOTO
"""

import os
import sys
from pathlib import Path

from glimpse_client import Client, GlimpseError

photo = sys.argv[1]

with Client(
    os.environ.get("GLIMPSE_URL", "http://localhost:8000"),
    os.environ.get("GLIMPSE_API_KEY"),
) as client:
    try:
        for caption in client.caption(photo, num_captions=3).captions:
            print(f"{caption.text} ({caption.confidence:.2f})")
        Path("attention.png").write_bytes(client.overlay(photo))
    except GlimpseError as error:
        sys.exit(str(error))
