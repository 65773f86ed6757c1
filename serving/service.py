"""The BentoML service: typed signatures over the bundle in use.

`bentoml serve` at the project's root answers on port 3000; the player page is at `/`, the API's
documentation at `/docs`.
"""

import gc
import logging
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import bentoml
from bentoml import get_current_service
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.server.http import instruments
from bentoml._internal.utils.analytics import usage_stats
from bentoml.exceptions import BentoMLException
from prometheus_client import Counter, Histogram
from starlette.routing import Route
from tornado.ioloop import IOLoop
from tornado.platform.asyncio import BaseAsyncIOLoop

from features.paths import (
    api_keys,
    deadline_seconds,
    events_url,
    exposures_folder,
    online_url,
    request_rate,
    served_bundle,
    worker_count,
)
from serving.access import OPEN, OPEN_BELOW, RIGHT_OF, AccessGuard, read_keys
from serving.afterwards import Afterwards
from serving.answers import Sources, Work, answer
from serving.api import RecommendRequest, RecommendResponse
from serving.counted import Counted
from serving.database import address
from serving.deadline import Deadline
from serving.described import TIMEOUT_SECONDS
from serving.direct import PATH, Direct
from serving.errors import InShape
from serving.event_log import EventLog
from serving.events import EventDesk
from serving.exploration import Explore
from serving.exposure_log import ExposureWriter
from serving.guard import BodyGuard
from serving.live import Live, Loaded
from serving.recommender import Recommender
from serving.residency import give_back
from serving.routes import routes
from serving.spread import Busy, Spread
from serving.stages import Stages

# BentoML reports its use to its makers unless this is set, and by now it has looked once.
os.environ["BENTOML_DO_NOT_TRACK"] = "True"
usage_stats.do_not_track.cache_clear()

# BentoML has one folder in its home for what all workers count, and a start clears it: of two
# services of one user the first would show the counts of the second. Workers are told theirs.
# In memory where that can be had: the files are mapped, and a full disk would kill who counts.
MEMORY: Final = "/dev/shm"
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    counts = tempfile.TemporaryDirectory(
        prefix="segue_counts_",
        dir=MEMORY if os.access(MEMORY, os.W_OK) else None,
        ignore_cleanup_errors=True,
    )
    BentoMLContainer.prometheus_multiproc_dir.set(counts.name)


def monotonic(_: IOLoop) -> float:
    """Return the time that does not go back, for whoever works something off by it."""
    return time.monotonic()


# Circus, in the parent process, looks for dead workers by the machine's clock: after a step back
# of an hour it looked an hour later.
BaseAsyncIOLoop.time = monotonic  # type: ignore[method-assign, assignment]

requests = logging.getLogger("serving.requests")
requests.setLevel(logging.INFO)

ONE_THREAD: Final = [
    {"name": name, "value": "1"}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
]
WARM_UP_SECONDS: Final = 60.0
SWITCH_SECONDS: Final = 0.0005
answers_total = Counter(
    "segue_answers_total",
    "Answers of /recommend, by variant, by bundle and by what was left out.",
    labelnames=["variant", "model_version", "degraded"],
)
songs_total = Counter(
    "segue_songs_total",
    "Songs answered, by the generator that ranked each best and by bundle.",
    labelnames=["source", "model_version"],
)
stage_seconds = Histogram(
    "segue_stage_seconds",
    "Time of an answer by stage, in seconds; `total` is all of it.",
    labelnames=["stage", "model_version"],
    buckets=(1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0),
)


def running() -> "Segue":
    """Return the service of this process, once it has started."""
    # Imported by name: BentoML looks up anew what is asked of the package itself, in some 20 µs.
    return get_current_service()


def current() -> Loaded:
    """Return the bundle in use by the running service."""
    return running().live.current


def desk() -> EventDesk:
    """Return what takes the running service's events."""
    return running().desk


def asked_workers() -> int:
    """Return how many workers answer; a number that is none ends the start with a sentence."""
    try:
        return worker_count()
    except ValueError as error:
        raise BentoMLException(str(error)) from error


app = routes(current, desk)
own = [route.path for route in app.routes if isinstance(route, Route)]
instruments.RunnerTrafficMetricsMiddleware = partial(
    Counted,
    counting=instruments.RunnerTrafficMetricsMiddleware,
    paths=frozenset([PATH, *OPEN, *OPEN_BELOW, *RIGHT_OF, *own]),
)


@bentoml.asgi_app(app, path="/")
@bentoml.service(
    name="segue",
    description="Recommends the next few songs to a listener.",
    labels={"bundle": served_bundle().resolve().name},
    envs=[*ONE_THREAD, {"name": "BENTOML_DO_NOT_TRACK", "value": "True"}],
    traffic={"timeout": TIMEOUT_SECONDS},
    workers=asked_workers(),
    # Each answer has a trace and a line of our own, with more in them; BentoML's spans, four an
    # answer and collected by nobody, take a third of a millisecond.
    tracing={"excluded_urls": ["/recommend"]},
    logging={"access": {"enabled": False}},
)
class Segue:
    """Recommends the next few songs to a listener."""

    def __init__(self) -> None:
        # Feast takes seconds to import. The parent process, which only checks, does without; a
        # worker waits for the bundle's pages meanwhile.
        with ThreadPoolExecutor(1) as aside:
            store = aside.submit(import_module, "features.store")
            self.live = Live.open(bundle_folder())
            online_user_row = store.result().online_user_row
        # A log that is gone at the start must not keep anyone from being answered.
        events = EventLog.open(eager=False)
        self.desk = EventDesk(events)
        folder = exposures_folder()
        self.exposures = None if folder is None else ExposureWriter(folder)
        expose = self.exposures.put if self.exposures else lambda _: None
        self.sources = Sources(online_user_row, events.recent, expose)
        self.seconds = deadline_seconds()
        self.observing: Afterwards[tuple[dict[str, Any], Stages]] = Afterwards(
            lambda answered: observe(*answered), "observing"
        )
        # Opens the store in the thread that answers first, so that no listener waits for it.
        first = Work(
            self.live.current,
            RecommendRequest(user_id="nobody"),
            Explore.of("nobody", 0.0),
            Deadline.after(WARM_UP_SECONDS),
        )
        self.sources.working.start(first, self.sources).result()
        log_as_json()
        # What is loaded stays; and whoever writes logs behind the answers' back gives way sooner.
        gc.freeze()
        sys.setswitchinterval(SWITCH_SECONDS)
        self.stopped = threading.Event()
        threading.Thread(
            target=self.live.watch, args=(self.stopped,), name="bundle-watch", daemon=True
        ).start()

    @bentoml.on_deployment
    def check() -> None:
        """Stop the start, in the parent process, if bundle or settings cannot be used."""
        try:
            check_settings()
            Recommender.load(bundle_folder())
        except (ValueError, OSError) as error:
            raise BentoMLException(str(error)) from error
        # This process lives as long as its workers, and has no more use for the bundle.
        give_back()

    @bentoml.on_shutdown
    def stop(self) -> None:
        """Stop looking for newer bundles; count, log and write down what waits."""
        self.stopped.set()
        self.observing.stop()
        self.desk.close()
        if self.exposures:
            self.exposures.close()

    @bentoml.api(route="/recommend")
    async def recommend(self, request: RecommendRequest, /) -> RecommendResponse:
        """Answer `POST /recommend`, as `serving.described` says."""
        return RecommendResponse.model_validate(await self.answered(request))

    async def answered(self, request: RecommendRequest) -> dict[str, Any]:
        """Answer from the bundle in use, by the deadline; see `RecommendResponse`."""
        deadline = Deadline.after(self.seconds)
        return await answer(self.live.current, request, self.sources, deadline)


def check_settings() -> None:
    """Read all settings once; a store that is gone must not stop the start, no address must.

    Raises
    ------
    ValueError
        If one cannot be used; the message names it.
    """
    online_url()
    deadline_seconds()
    request_rate()
    read_keys(api_keys())
    address(events_url())
    exposures_folder()


def log_as_json() -> None:
    """Let each answer's line stand by itself: one JSON object, on standard output."""
    if not requests.handlers:
        requests.addHandler(logging.StreamHandler(sys.stdout))
        requests.propagate = False


async def recommend(request: RecommendRequest) -> dict[str, Any]:
    """Let the running service answer."""
    return await running().answered(request)


def done(response: dict[str, Any], stages: Stages) -> None:
    """Have an answer counted and logged soon."""
    running().observing.put((response, stages))


def catch_up() -> None:
    """Count and log now what waits for that."""
    running().observing.flush()


def observe(response: dict[str, Any], stages: Stages) -> None:
    """Count an answer and log it in one line."""
    version = response["model_version"]
    degraded = "+".join(response["degraded"]) or "none"
    labelled(answers_total, response["variant"], version, degraded).inc()
    for name, seconds in stages.seconds.items():
        labelled(stage_seconds, name, version).observe(seconds)
    for source, songs in stages.facts.get("sources", {}).items():
        labelled(songs_total, source, version).inc(songs)
    if requests.isEnabledFor(logging.INFO):
        requests.info(stages.trace())


@lru_cache(maxsize=4096)
def labelled(metric: Any, *labels: str) -> Any:
    """Return a metric's part for some labels; Prometheus takes a lock each time it looks it up."""
    return metric.labels(*labels)


def share_connections() -> None:
    """Let this worker hand on connections if it is one of several."""
    workers, number = worker_count(), bentoml.server_context.worker_index
    # A worker may be numbered beyond them while the one whose place it takes is still listed.
    places = 2 * workers
    if workers > 1 and number is not None and number <= places:
        busy = Busy(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]) / "busy", places, number - 1)
        service().add_asgi_middleware(Spread, busy=busy)


def service() -> Any:
    """Return what the decorators made of the class: a `bentoml.Service`."""
    return Segue


share_connections()
service().add_asgi_middleware(InShape)
# Strangers are refused before their body is read.
service().add_asgi_middleware(AccessGuard)
service().add_asgi_middleware(BodyGuard, worker=str(os.getpid()))
# The last one: everything that may refuse a request comes before it is answered.
service().add_asgi_middleware(Direct, recommend=recommend, done=done, catch_up=catch_up)


def bundle_folder() -> Path:
    """Return the bundle to serve: the deployed one, or the one a Bento was built with."""
    folder = served_bundle()
    bento = service().bento
    if bento is not None and not folder.exists():
        return folder.parent / str(bento.info.labels["bundle"])
    return folder
