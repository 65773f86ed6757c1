"""The files of a bundle: one immutable directory with everything that is needed to answer.

songs.npz, songs.arrow songs as columns (`features.catalogue`); titles and artists
search.txt, search.npz names of the most popular songs as one text, and where each begins
listeners.json, .npz   some listeners to try; the neighbours of `listeners`, if that is enabled
fit.json, ranker_fit.json   until when generators and ranker saw events
factors_<signal>.npz   item factors over the catalogue
factors_<signal>.faiss an index over them (large catalogues, signals that propose)
artists.npz            each artist's most popular songs
fresh.npz              new songs of each artist, and of each genre in each language
<generator>.npz        the other generators that are enabled
settings.json          the parameters of generators and of `serving.bundle.SERVING_SECTIONS`
ranker.txt             LightGBM, orders the pool (absent in a bundle that only retrieves)
starts.txt             what is added to it at session starts (absent where labels have too few)
p_like.txt, p_skip.txt, calibration.json   LightGBM probabilities, where the source has them
manifest.json          version, times, feature list, parameters, metrics, checksums
"""

from typing import Final

from features.params import SignalName

TEXT_FILE: Final = "search.txt"
SEARCH_FILE: Final = "search.npz"
LISTENERS_FILE: Final = "listeners.json"
ARTISTS_FILE: Final = "artists.npz"
FRESH_FILE: Final = "fresh.npz"
TRENDING_FILE: Final = "trending.npz"
VECTORS_FILE: Final = "vectors.npz"
SESSIONS_FILE: Final = "sessions.npz"
DAYPARTS_FILE: Final = "dayparts.npz"
TENSOR_FILE: Final = "tensor.npz"
SETTINGS_FILE: Final = "settings.json"
CALIBRATION_FILE: Final = "calibration.json"
# Generators of which the bundle has each song's links to others.
LINKS: Final = ("transitions", "rules", "together", "listeners", "ease")
BOOSTERS: Final = ("ranker", "starts", "p_like", "p_skip")


def factors_file(signal: SignalName) -> str:
    """Return the file name of a signal's factors."""
    return f"factors_{signal}.npz"


def index_file(signal: SignalName) -> str:
    """Return the file name of a signal's index."""
    return f"factors_{signal}.faiss"


def links_file(name: str) -> str:
    """Return the file name of a generator's links."""
    return f"{name}.npz"


def trees_file(name: str) -> str:
    """Return the file name of a booster."""
    return f"{name}.txt"
