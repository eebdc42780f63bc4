"""The straightforward script: submits one after another, and sleeps as long as a 429 says.

python -m benchmarks.limiter.script API TOKEN FILE_OF_MEDIA_IDS START_FILE: says `ready`, and begins when the start
file is there.
"""

import sys
import time
from pathlib import Path

import httpx


def main(api: str, token: str, media_ids: str, start: str) -> None:
    wanted = Path(media_ids).read_text(encoding="utf-8").split()
    with httpx.Client(base_url=api, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as client:
        print("ready", flush=True)
        while not Path(start).exists():
            time.sleep(0.01)
        for media_id in wanted:
            body = {"mediaId": media_id, "languages": ["en-US"]}
            while (answer := client.post("/api/v2/media/transcriptions", json=body)).status_code == 429:
                time.sleep(float(answer.headers["Retry-After"]))
            answer.raise_for_status()


if __name__ == "__main__":
    main(*sys.argv[1:])
