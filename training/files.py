"""Small files that stages leave for each other."""

import json
from pathlib import Path
from typing import Final

# What a leak is found by: until when a cut's generators saw events, and until when its ranker's
# queries were asked (their labels reach to the end of those sessions).
FIT: Final = "fit.json"
RANKER_FIT: Final = "ranker_fit.json"


def write_json(path: Path, content: object) -> None:
    """Write sorted, indented JSON; the same content gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
