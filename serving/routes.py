"""The GET side: the player page, look-ups in the catalogue, and the API's documentation."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from features.contract import MOST_CHARACTERS
from serving.api import (
    MAX_SONGS,
    TRIMMED,
    FoundSong,
    Listeners,
    Search,
    Similar,
    SimilarSong,
    Status,
    Vocabulary,
)
from serving.described import ASKED, GUARDED, describe, refusals
from serving.errors import add_refusals
from serving.event_routes import add_events
from serving.events import EventDesk
from serving.live import Loaded

WEB: Final = Path(__file__).parent / "web"
# The page loads from its own origin only, and runs no script that a song's title might carry.
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-cache",
}
# Swagger UI writes style attributes and carries its icons as data.
DOCS_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
}
Count = Annotated[int, Query(ge=1, le=MAX_SONGS)]


def routes(current: Callable[[], Loaded], desk: Callable[[], EventDesk]) -> FastAPI:
    """Return the app; `current` gives the bundle in use, `desk` takes events."""
    app = FastAPI(
        title="Segue",
        description="Recommends the next few songs to a listener. The player page is at [/](/).",
        docs_url=None,
        redoc_url=None,
        openapi_url="/docs.json",
    )
    app.mount("/web", StaticFiles(directory=WEB), name="web")
    _add_pages(app)
    _add_songs(app, current)
    _add_service(app, current)
    add_events(app, desk)
    add_refusals(app)
    describe(app)
    return app


def _add_pages(app: FastAPI) -> None:
    # HEAD, too, which would else be answered by BentoML's own front page.
    page = partial(app.api_route, methods=["GET", "HEAD"], include_in_schema=False)

    @page("/")
    def player() -> FileResponse:
        return FileResponse(WEB / "index.html", headers=PAGE_HEADERS)

    @page("/operator")
    def operator() -> FileResponse:
        return FileResponse(WEB / "operator.html", headers=PAGE_HEADERS)

    @page("/docs")
    def documentation() -> FileResponse:
        return FileResponse(WEB / "docs.html", headers=DOCS_HEADERS)


def _add_songs(app: FastAPI, current: Callable[[], Loaded]) -> None:
    @app.get("/songs/search", responses=ASKED | GUARDED)
    def search(
        q: Annotated[str, Query(min_length=1, max_length=200, examples=["night"])], k: Count = 10
    ) -> Search:
        """Find songs by the beginning or any part of title, artist or id, in any case."""
        loaded = current()
        found = loaded.lookup.name_index.search(q, k)
        return Search(songs=[FoundSong.model_validate(_name(loaded, song)) for song in found])

    unknown = refusals({404: "The song is unknown."})

    @app.get("/songs/similar", responses=unknown | ASKED | GUARDED)
    def similar(
        song_id: Annotated[
            str,
            Query(min_length=1, max_length=MOST_CHARACTERS, pattern=TRIMMED, examples=["s0000012"]),
        ],
        k: Count = 10,
    ) -> Similar:
        """Return the songs nearest to one by what listeners hear (cosine of `listen` factors).

        For a song that has no factors: by how often songs share a session with it.
        """
        loaded = current()
        song = loaded.recommender.retrieval.songs.index_of.get(song_id)
        if song is None:
            raise HTTPException(404, f"song_id: the catalogue has no song {song_id!r}.")
        by, nearest = loaded.lookup.similar(song, k)
        songs = [
            SimilarSong.model_validate(_name(loaded, i) | {"score": score}) for i, score in nearest
        ]
        return Similar(song_id=song_id, by=by, songs=songs)


def _add_service(app: FastAPI, current: Callable[[], Loaded]) -> None:
    @app.get("/listeners", responses=ASKED | GUARDED)
    def listeners(k: Count = 20) -> Listeners:
        """Return some known listeners to try the service with; may be empty."""
        return Listeners(listeners=list(current().listeners[:k]))

    @app.get("/status", responses=GUARDED)
    def status() -> Status:
        """Return what is being served, and the words its catalogue knows."""
        loaded = current()
        manifest = loaded.recommender.manifest
        return Status(
            model_version=loaded.recommender.version,
            as_of=manifest.get("as_of"),
            feature_service=manifest.get("feature_service"),
            songs=len(loaded.recommender.retrieval.songs),
            vocabulary=Vocabulary.model_validate(loaded.lookup.vocabulary),
        )


def _name(loaded: Loaded, song: int) -> dict[str, object]:
    songs = loaded.recommender.retrieval.songs
    return {
        "song_id": str(songs.ids[song]),
        "title": loaded.lookup.title(song),
        "artists": loaded.lookup.artist_names(song),
    }
