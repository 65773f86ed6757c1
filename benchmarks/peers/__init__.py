"""Other people's methods on Segue's protocol; see docs/peers.md.

`export` and `score` run in the main environment, `tune` and `run` in the peers' own.
"""

import features  # noqa: F401  it sets the thread limits, which must come before numpy
