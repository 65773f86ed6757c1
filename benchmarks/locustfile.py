"""The users of the throughput run: each asks again as soon as it is answered.

`SEGUE_BODIES` names the JSON file of requests; known and new listeners come in turn.
"""

import json
import os
from itertools import cycle
from pathlib import Path

from locust import FastHttpUser, constant, task

BODIES = cycle(json.loads(Path(os.environ["SEGUE_BODIES"]).read_text(encoding="utf-8")))


class Listener(FastHttpUser):
    """Asks for songs, each time after another session."""

    wait_time = constant(0)

    @task
    def recommend(self) -> None:
        """Ask; any answer but 200 counts as a failure."""
        self.client.post("/recommend", json=next(BODIES))
