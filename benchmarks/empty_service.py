"""A BentoML service that does nothing: what an answer costs before any work is done."""

import os

import bentoml
from bentoml._internal.utils.analytics import usage_stats
from pydantic import BaseModel

from features.paths import worker_count

# As in `serving.service`: by now BentoML has looked once.
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
usage_stats.do_not_track.cache_clear()


class Anything(BaseModel):
    """Takes the body of any request; only `k` is looked at."""

    k: int = 10


class Nothing(BaseModel):
    """The answer that is always the same."""

    songs: list[str] = []


@bentoml.service(name="empty", traffic={"timeout": 10}, workers=worker_count())
class Empty:
    """Answers with a constant."""

    @bentoml.api(route="/recommend")
    def recommend(self, request: Anything, /) -> Nothing:
        """Return the constant."""
        return Nothing()
