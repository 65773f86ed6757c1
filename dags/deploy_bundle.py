"""### Deploy: a bundle to where the service looks.

Copies the bundle to `data/served/<version>`, loads the online store up to the bundle's *as of*,
and swaps `data/served/current` in one step. A running service takes the new bundle up by itself
within seconds; a run that fails anywhere leaves the old one served. So does the gate: a bundle that
a single method beat in its test does not replace another.

* **Form**: the folder of the bundle, and whether it may pass the gate; or, to roll back, a version
  served before.
* **A rollback** lasts until there is another bundle: the one that was rolled back from is not
  deployed again by a schedule, only as the version to roll back to.
* **Safe to repeat**: deploying what is served already changes nothing.
"""

from airflow.sdk import Param, dag

from wiring import BUNDLE, DEFAULT_ARGS, SERVED, deploy_bundle


@dag(
    schedule=[BUNDLE],
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    default_args=DEFAULT_ARGS,
    params={
        "bundle": Param(
            "data/bundles/serving",
            type="string",
            pattern="^[^{}]+$",
            title="Bundle",
            description="Folder of the bundle, relative to the project.",
        ),
        "version": Param(
            None,
            type=["null", "string"],
            pattern="^[0-9A-Za-z._-]+$",
            title="Roll back to",
            description="A version in data/served to serve again, instead of the bundle.",
        ),
        "past_gate": Param(
            False,
            type="boolean",
            title="Past the gate",
            description="Deploy the bundle even if a single method beat it in its test.",
        ),
    },
    doc_md=__doc__,
    tags=["segue"],
)
def deploy() -> None:
    """Swap the served bundle."""
    deploy_bundle.override(outlets=[SERVED])()


deploy()
