"""The bundle in use, and its exchange for a newer one while requests go on."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prometheus_client import Counter
from pydantic import ValidationError

from features.catalogue import IntArray
from serving.api import Listener, Listeners, faults
from serving.exploration import Explore
from serving.fallback import most_popular
from serving.files import LISTENERS_FILE
from serving.lookup import Lookup, lookup
from serving.manifest import BundleError
from serving.recommender import Recommender
from serving.residency import make_resident
from serving.stages import Stages
from serving.warm_up import warm_up_queries

log = logging.getLogger("serving.live")

EVERY_SECONDS: Final = 1.0
# How long a bundle that could not be used is left alone.
AGAIN_SECONDS: Final = 60.0

refused_total = Counter(
    "segue_bundles_refused_total", "Times that a newer bundle was found but could not be used."
)


@dataclass(frozen=True)
class Loaded:
    """One bundle, ready to answer. A request keeps one of these for its whole answer."""

    folder: Path
    recommender: Recommender
    lookup: Lookup
    listeners: tuple[Listener, ...]

    @property
    def popular(self) -> IntArray:
        """The most popular songs, in order."""
        return self.recommender.candidates.popular


@dataclass
class Live:
    """Holds what is loaded from `folder`, which may be a link that moves to other bundles."""

    folder: Path
    current: Loaded
    now: Callable[[], float] = time.monotonic
    _refused: Path | None = field(default=None, repr=False)
    _again: float = field(default=0.0, repr=False)

    @classmethod
    def open(cls, folder: Path) -> "Live":
        """Load the bundle at `folder`.

        Raises
        ------
        BundleError
            If there is none, or it cannot be used; the message says why and what to do.
        """
        return cls(folder, load(folder))

    def refresh(self) -> bool:
        """Load the bundle that `folder` now leads to, if another; tell whether it is in use.

        One that cannot be used is logged and left alone until the link moves, or for a while:
        a machine that ran out of files or memory may have had some fault of its own.
        """
        target = led_to(self.folder)
        if target == self.current.folder:
            self._refused = None
            return False
        if target == self._refused and self.now() < self._again:
            return False
        try:
            loaded = load(target)
        except BundleError as error:
            self._refused, self._again = target, self.now() + AGAIN_SECONDS
            refused_total.inc()
            log.error("Stays with %s: %s", self.current.recommender.version, error)
            return False
        log.info("From %s to %s", self.current.recommender.version, loaded.recommender.version)
        self.current, self._refused = loaded, None
        return True

    def watch(self, stopped: threading.Event, seconds: float = EVERY_SECONDS) -> None:
        """Refresh until `stopped` is set."""
        while not stopped.wait(seconds):
            self.refresh()


def load(folder: Path) -> Loaded:
    """Load and try out a bundle; every fault becomes a `BundleError`."""
    target = led_to(folder)
    try:
        recommender = Recommender.load(target)
        loaded = Loaded(
            folder=target,
            recommender=recommender,
            lookup=lookup(recommender.retrieval, target),
            listeners=_listeners(target),
        )
        make_resident(target)
        _try_out(loaded)
    except BundleError:
        raise
    except Exception as error:
        reason = faults(error) if isinstance(error, ValidationError) else str(error)
        raise BundleError(
            f"The bundle {target} cannot be used ({type(error).__name__}: {reason}); "
            "train and deploy it again with `make pipeline`."
        ) from error
    return loaded


def led_to(folder: Path) -> Path:
    """Return where a link leads; where links go round in circles `Path.resolve` would raise."""
    return Path(os.path.realpath(folder))


def _try_out(loaded: Loaded) -> None:
    """Answer queries of every kind before the bundle is in use; see `serving.warm_up`."""
    recommender = loaded.recommender
    songs = recommender.retrieval.songs
    # Within a request, so that what answers note of themselves is tried, too.
    with Stages():
        for query in warm_up_queries(songs, loaded.popular.tolist()):
            prepared = recommender.prepare(query, k=5)
            for temperature in (0.0, 1.0):
                recommender.answer(prepared, 5, explain=True, explore=Explore(temperature, seed=1))
            most_popular(songs, loaded.popular, query, k=5)
    loaded.lookup.similar(0, k=5)


def _listeners(folder: Path) -> tuple[Listener, ...]:
    path = folder / LISTENERS_FILE
    if not path.exists():
        return ()
    try:
        return tuple(Listeners.model_validate_json(path.read_bytes()).listeners)
    except ValidationError as error:
        raise BundleError(f"{path} is not a list of listeners: {faults(error)}.") from error
