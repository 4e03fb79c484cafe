"""A photo's captions, and a drawing of where the model looked, with httpx alone.

Usage: python caption_httpx.py PHOTO
"""

import os
import sys
from pathlib import Path

import httpx

photo = Path(sys.argv[1]).read_bytes()
key = os.environ.get("GLIMPSE_API_KEY")

with httpx.Client(
    base_url=os.environ.get("GLIMPSE_URL", "http://localhost:8000"),
    headers={"X-API-Key": key} if key else {},
    timeout=60,
) as http:
    answer = http.post("/caption", params={"num_captions": 3}, files={"image": photo})
    if answer.is_error:
        sys.exit(answer.json()["detail"])  # what is wrong, and what would be right
    for caption in answer.json()["captions"]:
        print(f"{caption['text']} ({caption['confidence']:.2f})")

    drawing = http.post("/attention", params={"format": "png"}, files={"image": photo})
    drawing.raise_for_status()
    Path("attention.png").write_bytes(drawing.content)
