"""The library a listener brings along: what was loved before the first day."""

import numpy as np

from simulation.draws import Array, key, pick, uniform, uniforms
from simulation.listeners import Listeners
from simulation.market import DECADES, FIRST_DECADE, Market, genre_shelf
from simulation.memory import LIBRARY, Memory
from simulation.model import TEENS_MIDDLE, Model

TRIED = 16
NEWCOMERS_BRING = 12
_TRIED, _CHOSEN, _STRENGTH, _LANGUAGE, _GENRE, _WAY = range(200, 206)
_FAVOURITES, _TEENS = 0.2, 0.3


def welcome(
    users: Array,
    newcomers: Array,
    model: Model,
    listeners: Listeners,
    market: Market,
    memory: Memory,
) -> None:
    """Fill the libraries of listeners; a newcomer brings a few songs only.

    Each place goes to the best of `TRIED` songs out of the favourite artists, the teens' decade
    and the genres listened to.
    """
    place = np.arange(LIBRARY)
    keys = key(model.seed, users[:, None], place[None, :], 3).ravel()
    owner = np.repeat(users, LIBRARY)
    songs = _tried(owner, keys, model, listeners, market)
    worth = model.affinity(owner[:, None], songs)
    worth -= np.log(-np.log(uniforms(keys, _CHOSEN, TRIED) + 1e-12))
    best = songs[np.arange(len(songs)), worth.argmax(axis=1)].reshape(len(users), LIBRARY)
    strength = np.abs(np.log1p(-uniform(keys, _STRENGTH))).reshape(best.shape) ** 1.5 * 2.5
    brought = ~newcomers[:, None] | (place < NEWCOMERS_BRING)
    memory.library[users] = np.where(brought, best, -1)
    memory.strength[users] = np.where(brought, strength, 0.0)
    memory.last[users] = best[:, 0]


def _tried(owner: Array, keys: Array, model: Model, listeners: Listeners, market: Market) -> Array:
    """Draw songs to try, (places, TRIED), by popularity within what each place is for."""
    chances = uniforms(keys, _TRIED, TRIED)
    second = uniform(keys, _LANGUAGE) >= listeners.language_share[owner, 0]
    language = listeners.languages[owner, second.astype(np.int64)]
    rows, which = np.arange(len(owner)), uniform(keys, _GENRE)
    rank = pick(listeners.genre_share[owner].cumsum(axis=1), which)
    genre = genre_shelf(language, listeners.genres[owner, rank])
    favourites = listeners.favourites[owner]
    artist = favourites[rows, (which * favourites.shape[1]).astype(np.int64)]
    decade = (model.birth_year[owner] + TEENS_MIDDLE - FIRST_DECADE) // 10
    era = language * DECADES + np.clip(decade, 0, DECADES - 1)
    way = uniform(keys, _WAY)[:, None]

    def shelf(name: str, group: Array) -> Array:
        return market.draw(name, np.broadcast_to(group[:, None], chances.shape), chances)

    by_teens = np.where(way < _FAVOURITES + _TEENS, shelf("era", era), shelf("genre", genre))
    return np.where(way < _FAVOURITES, shelf("artist", artist), by_teens)
