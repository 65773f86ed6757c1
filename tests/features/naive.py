"""The features again, as plain loops over raw events: slow, obvious, and sharing no code.

Events, users and songs are lists of dicts with `None` where a value is absent.
"""

import math
from array import array
from collections import Counter, defaultdict
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

DAY = timedelta(days=1)
AUDIO = ["tempo", "energy", "valence", "danceability", "acousticness"]


def weight(ts, as_of, half_life):
    return 0.5 ** ((as_of - ts) / DAY / half_life)


def inside(ts, as_of, days):
    return as_of - timedelta(days=days) <= ts < as_of


def standing(events, as_of, setter, cancellers):
    """(user, song) -> (time last set, 1 if it still stands else 0)."""
    last = {}
    for event in sorted(events, key=lambda e: (e["ts"], e["action"] in cancellers)):
        pair = event["user_id"], event["song_id"]
        if event["ts"] >= as_of:
            continue
        if event["action"] == setter:
            last[pair] = event["ts"], 1.0
        if event["action"] in cancellers and pair in last:
            last[pair] = last[pair][0], 0.0
    return last


def said(event, duration, signal):
    """Return what one listening says of skip or listen, or None."""
    played, skipped = event["played_ms"], event["action"] == "skip"
    if signal == "listen":
        if played is None:
            return 0.0 if skipped else 1.0
        return min(played / (duration or 240_000), 1.0)
    if played is None or not duration:
        return 1.0 if skipped else None
    return 1.0 - min(played / duration, 1.0)


def values(events, songs, signal, as_of):
    """List (user, song, ts, value) of everything before as_of."""
    if signal == "like":
        found = standing(events, as_of, "like", {"unlike", "dislike"})
    elif signal == "playlist":
        found = standing(events, as_of, "playlist_add", {"playlist_remove"})
    else:
        duration = {song["song_id"]: song["duration_ms"] for song in songs}
        listed = []
        for event in events:
            if event["action"] in ("play", "skip") and event["ts"] < as_of:
                value = said(event, duration.get(event["song_id"]), signal)
                if value is not None:
                    listed.append((event["user_id"], event["song_id"], event["ts"], value))
        return listed
    return [(*pair, ts, value) for pair, (ts, value) in found.items()]


def scores(events, songs, signal, as_of, window, half_life):
    sums = defaultdict(float)
    for user, song, ts, value in values(events, songs, signal, as_of):
        if inside(ts, as_of, window):
            sums[user, song] += value * weight(ts, as_of, half_life)
    return {pair: value for pair, value in sums.items() if value > 0}


def top(sums, limit, whole=1.0):
    """Two aligned lists, heaviest first, ties by key."""
    rounded = {key: round(value / whole, 6) for key, value in sums.items() if value > 0}
    ranked = sorted(rounded.items(), key=lambda item: (-item[1], item[0]))[:limit]
    return [key for key, _ in ranked], [value for _, value in ranked]


def seconds(ts):
    return ts.replace(microsecond=0) if ts else None


def has(events, action, as_of):
    return any(event["action"] == action and event["ts"] < as_of for event in events)


class World:
    """Features of a listener or a song as of a moment."""

    def __init__(self, events, users, songs, params):
        self.events, self.params = events, params
        self.users = {user["user_id"]: user for user in users}
        self.songs = {song["song_id"]: song for song in songs}

    def plays(self, as_of):
        window = self.params.features.window_days
        return [
            event
            for event in self.events
            if event["action"] in ("play", "skip") and inside(event["ts"], as_of, window)
        ]

    def scores(self, signal, as_of, setting):
        songs = list(self.songs.values())
        return scores(
            self.events, songs, signal, as_of, setting.window_days, setting.half_life_days
        )

    def liked(self, as_of, key, name):
        setting = self.params.features
        songs = list(self.songs.values())
        return sum(
            value * weight(ts, as_of, setting.half_life_days)
            for user, song, ts, value in values(self.events, songs, "like", as_of)
            if {"user_id": user, "song_id": song}[key] == name
            and inside(ts, as_of, setting.window_days)
        )

    def shares(self, plays, as_of, key, name):
        half_life = self.params.features.half_life_days
        whole = sum(weight(event["ts"], as_of, half_life) for event in plays)
        skipped = sum(
            weight(event["ts"], as_of, half_life) for event in plays if event["action"] == "skip"
        )
        skips, likes = (has(self.events, action, as_of) for action in ("skip", "like"))
        return {
            "skip_share": skipped / whole if plays and skips else None,
            "like_share": self.liked(as_of, key, name) / whole if plays and likes else None,
        }

    def user_row(self, name, as_of):
        """All features of a listener, or None if not known yet."""
        user = self.users.get(name)
        signed_up = user and user["signup_ts"] and user["signup_ts"] <= as_of
        seen = any(e["user_id"] == name and e["ts"] < as_of for e in self.events)
        if not (signed_up or seen):
            return None
        profile = dict(user) if user else dict.fromkeys(next(iter(self.users.values())))
        profile |= {"user_id": name, "signup_ts": seconds(profile["signup_ts"])}
        profile |= {key: profile[key] or [] for key in ("languages", "favourite_artists")}
        plays = [event for event in self.plays(as_of) if event["user_id"] == name]
        offset = timedelta(minutes=profile["utc_offset_minutes"] or 0)
        return {
            **profile,
            **self.activity(plays, name, as_of, offset),
            **self.tastes(name, as_of),
            "daypart_shares": self.dayparts(plays, as_of, offset),
            **self.history(name, as_of),
        }

    def activity(self, plays, name, as_of, offset):
        songs = {event["song_id"] for event in plays}
        sessions = {event["session_id"] for event in plays} - {None}
        days = {(event["ts"] + offset).date() for event in plays}
        count = len(plays)
        counts = {
            "plays": count,
            "sessions": len(sessions),
            "active_days": len(days),
            "distinct_songs": len(songs),
        }
        return {
            **(counts if plays else dict.fromkeys(counts)),
            "repeat_share": (count - len(songs)) / count if plays else None,
            **self.shares(plays, as_of, "user_id", name),
            "mean_session_plays": count / len(sessions) if sessions else None,
            "last_play_ts": seconds(max((event["ts"] for event in plays), default=None)),
        }

    def heard(self, as_of):
        return self.scores("listen", as_of, self.params.features)

    def tastes(self, name, as_of):
        heard = {song: value for (user, song), value in self.heard(as_of).items() if user == name}
        attributes = {
            "artist": (lambda song: song["artists"], 32),
            "era": (lambda s: s["release_year"] and [f"{s['release_year'] // 10}0"], 12),
            "language": (lambda song: song["language"] and [song["language"]], 12),
            "region": (lambda song: song["region"] and [song["region"]], 12),
            "genre": (lambda song: song["genres"], 16),
            "mood": (lambda song: song["moods"], 12),
        }
        row = {}
        for attribute, (keys_of, limit) in attributes.items():
            sums = defaultdict(float)
            for song, value in heard.items():
                keys = keys_of(self.songs[song]) if song in self.songs else None
                for key in keys or []:
                    sums[key] += value / len(keys)
            keys, shares = top(sums, limit, sum(sums.values()))
            row |= {f"{attribute}_keys": keys, f"{attribute}_shares": shares}
        return {**row, "audio_means": self.audio(heard)}

    def audio(self, heard):
        means = []
        for feature in AUDIO:
            known = [
                (value, self.songs[song][feature])
                for song, value in heard.items()
                if song in self.songs and self.songs[song][feature] is not None
            ]
            whole = sum(value for value, _ in known)
            means.append(sum(v * x for v, x in known) / whole if known else math.nan)
        return [] if all(math.isnan(mean) for mean in means) else means

    def dayparts(self, plays, as_of, offset):
        half_life = self.params.features.half_life_days
        bins = [0.0] * 28
        for event in plays:
            local = event["ts"] + offset
            bins[local.weekday() * 4 + local.hour // 6] += weight(event["ts"], as_of, half_life)
        return [value / sum(bins) for value in bins] if plays else []

    def history(self, name, as_of):
        settings = self.params.signals
        window = max(
            self.params.features.window_days, *(one.window_days for one in settings.values())
        )
        last, count = {}, Counter()
        for event in self.events:
            if event["user_id"] != name or not inside(event["ts"], as_of, window):
                continue
            if event["action"] in ("play", "skip", "like", "playlist_add"):
                song = event["song_id"]
                last[song] = max(last.get(song, event["ts"]), event["ts"])
                count[song] += event["action"] in ("play", "skip")
        found = {signal: self.scores(signal, as_of, settings[signal]) for signal in settings}
        kept = self.kept(name, last, found)
        row = {
            "history_songs": kept,
            "history_last_ts": [int(last[song].timestamp()) for song in kept],
            "history_plays": [count[song] for song in kept],
        }
        for signal, of_pairs in found.items():
            exists = values(self.events, list(self.songs.values()), signal, as_of)
            numbers = [of_pairs.get((name, song), 0.0) for song in kept]
            row[f"history_{signal}"] = numbers if exists else []
        return row

    def kept(self, name, last, found):
        """Return the latest, a quarter of the places going first to what stands liked or added."""
        length = self.params.features.history_songs
        order = sorted(last, key=lambda song: (-last[song].timestamp(), song))
        sure, others = order[: length - length // 4], order[length - length // 4 :]
        wanted = [s for s in others if (name, s) in found["like"] or (name, s) in found["playlist"]]
        rest = [song for song in others if song not in wanted]
        chosen = {*sure, *(wanted + rest)[: length // 4]}
        return [song for song in order if song in chosen]

    def song_row(self, name, as_of):
        """All features of a song, or None if not known yet."""
        song = self.songs.get(name)
        seen = [e["ts"] for e in self.events if e["song_id"] == name and e["ts"] < as_of]
        known = song and (song["released_ts"] is None or song["released_ts"] <= as_of)
        if not (known or seen):
            return None
        profile = dict(song) if song else dict.fromkeys(next(iter(self.songs.values())))
        profile |= {"song_id": name, "released_ts": seconds(profile["released_ts"])}
        for key in ("artists", "genres", "moods", "occasions"):
            profile[key] = profile[key] or []
        first_seen = seconds(min(seen, default=None))
        born = min(filter(None, (profile["released_ts"], first_seen)), default=None)
        plays = [event for event in self.plays(as_of) if event["song_id"] == name]
        return {
            **profile,
            "plays": len(plays),
            "listeners": len({event["user_id"] for event in plays}),
            **self.popularity(name, as_of),
            "trend": self.trend(plays, as_of),
            **self.shares(plays, as_of, "song_id", name),
            "age_days": (as_of - born) / DAY if born else None,
            "first_seen_ts": first_seen,
            **self.audience(name, as_of),
        }

    def popularity(self, name, as_of):
        sums = defaultdict(float)
        for (_, song), value in self.heard(as_of).items():
            sums[song] += value
        present = set(self.songs) | {e["song_id"] for e in self.events if e["ts"] < as_of}
        present = [song for song in present if self.is_known(song, as_of)]
        mine = round(sums[name], 6)
        below = sum(round(sums[song], 6) < mine for song in present)
        return {"popularity": mine, "popularity_percentile": below / max(len(present) - 1, 1)}

    def is_known(self, name, as_of):
        """Return whether it is known by then that there is such a song."""
        released = self.songs[name]["released_ts"] if name in self.songs else None
        if released is not None and released <= as_of:
            return True
        return any(e["song_id"] == name and e["ts"] < as_of for e in self.events)

    def is_present(self, name, as_of):
        if name in self.songs:
            released = self.songs[name]["released_ts"]
            if released is None or released <= as_of:
                return True
        return any(e["song_id"] == name and e["ts"] < as_of for e in self.events)

    def trend(self, plays, as_of):
        setting = self.params.features
        begun = min((e["ts"] for e in self.events if e["ts"] < as_of), default=as_of)
        earlier_days = min((as_of - begun) / DAY, setting.window_days) - setting.trend_days
        if not plays or earlier_days <= 0:
            return None
        recent = sum(as_of - event["ts"] <= setting.trend_days * DAY for event in plays)
        foreseen = (len(plays) - recent) * setting.trend_days / earlier_days
        return math.log2((recent + 1) / (foreseen + 1))

    def audience(self, name, as_of):
        regions, languages = defaultdict(float), defaultdict(float)
        for (user, song), value in self.heard(as_of).items():
            listener = self.users.get(user)
            if song != name or listener is None:
                continue
            if listener["region"]:
                regions[listener["region"]] += value
            for language in listener["languages"] or []:
                languages[language] += value / len(listener["languages"])
        names = ["listener_region_keys", "listener_region_popularity"]
        names += ["listener_language_keys", "listener_language_popularity"]
        return dict(zip(names, (*top(regions, 12), *top(languages, 12)), strict=True))


def plain(value):
    """Strip what pandas and NumPy make of a value, so that sources can be compared."""
    if isinstance(value, np.ndarray | array):
        return value.tolist()
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    return value.item() if isinstance(value, np.generic) else value


def assert_same(got, expected):
    """Compare two rows, numbers to the precision of the lists' 32-bit floats."""
    assert set(got) == set(expected)
    for name, value in expected.items():
        mine, theirs = plain(got[name]), plain(value)
        parts = theirs if isinstance(theirs, list) else [theirs]
        if any(isinstance(part, float) for part in parts):
            theirs = pytest.approx(theirs, rel=1e-5, abs=2e-6, nan_ok=True)
        assert mine == theirs, f"{name}: got {mine}, expected {theirs}"
