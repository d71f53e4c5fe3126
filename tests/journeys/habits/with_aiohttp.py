"""How aiohttp sends a picture; prints the answers. Arguments: the server's URL, a JPEG file."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp

URL, PHOTO = sys.argv[1], Path(sys.argv[2]).read_bytes()


async def main() -> None:
    form = aiohttp.FormData({"mark": "none"})
    form.add_field("image", PHOTO, content_type="image/jpeg")  # without a file name
    raw = {"data": PHOTO, "headers": {"Content-Type": "application/octet-stream"}, "params": {"mark": "none"}}
    bodies: dict[str, dict[str, Any]] = {
        "a form": {"data": form},
        "a raw body": raw,
        "compressed": {**raw, "compress": "gzip"},
    }
    seen = {}
    async with aiohttp.ClientSession() as session:
        for name, body in bodies.items():
            headers = {"Prefer": "wait=60", **body.pop("headers", {})}
            async with session.post(f"{URL}/v1/detect/", headers=headers, **body) as answer:
                seen[name] = await answer.json()
    print(json.dumps(seen))


asyncio.run(main())
