"""The captions of many photos, eight at a time, with Glimpse's asynchronous client.

Usage: python caption_many.py PHOTO...
"""

import asyncio
import os
import sys

from glimpse_client import AsyncClient, GlimpseError

AT_A_TIME = 8


async def main(photos: list[str]) -> None:
    """Print a line for each photo, in the order in which the answers come."""
    places = asyncio.Semaphore(AT_A_TIME)
    server = os.environ.get("GLIMPSE_URL", "http://localhost:8000")

    async with AsyncClient(server, os.environ.get("GLIMPSE_API_KEY")) as client:

        async def caption(photo: str) -> None:
            async with places:
                try:
                    said = (await client.caption(photo)).caption
                except GlimpseError as error:
                    said = f"not captioned: {error}"
            print(f"{photo}: {said}")

        await asyncio.gather(*map(caption, photos))


asyncio.run(main(sys.argv[1:]))
