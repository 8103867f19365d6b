"""Running Great Expectations and keeping its Data Docs: the detail, where the verdict is not enough."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from persia_core.validation.data_rules import Rule
from persia_core.validation.expectations import great_expectations
from persia_core.validation.offline_pages import offline

if TYPE_CHECKING:
    import pandas as pd

_SITE = "local"
_PAGES = ("expectations/", "validations/")  # its index needs scripts of the network; the verdict stands in


@dataclass(frozen=True)
class Outcome:
    """What one expectation found; `result` as in its JSON form."""

    passed: bool
    result: dict[str, Any]


class DataDocs:
    """An ephemeral context of Great Expectations whose Data Docs are written to a local directory."""

    def __init__(self, site: Path) -> None:
        gx = great_expectations()
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        self._site = site
        config = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            data_docs_sites={
                _SITE: {
                    "class_name": "SiteBuilder",
                    "show_how_to_buttons": False,
                    "store_backend": {
                        "class_name": "TupleFilesystemStoreBackend",
                        "base_directory": str(site),
                    },
                    "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                }
            },
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        )
        self._context = gx.get_context(mode="ephemeral", project_config=config)

    def check(self, name: str, ds: str, frame: "pd.DataFrame", rules: list[Rule]) -> list[Outcome]:
        """Check `rules` on `frame`; the outcomes are in their order. Kept in the docs under `name`.

        The page of a partition always has the same path: its run time is the partition's day.
        """
        gx = great_expectations()
        from great_expectations.core.run_identifier import RunIdentifier

        asset = self._context.data_sources.add_pandas(name).add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe("whole")
        suite = gx.ExpectationSuite(name=name)
        for position, rule in enumerate(rules):
            rule.expectation.meta = {"rule": position}
            suite.add_expectation(rule.expectation)
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=name, data=batch, suite=self._context.suites.add(suite))
        )
        day = datetime.fromisoformat(ds).replace(tzinfo=UTC)
        done = definition.run(
            batch_parameters={"dataframe": frame},
            result_format="BASIC",
            run_id=RunIdentifier(run_name=ds, run_time=day),
        )
        found: dict[int, Outcome] = {}
        for item in done.results:
            answer = item.to_json_dict()
            found[answer["expectation_config"]["meta"]["rule"]] = Outcome(bool(item.success), answer)
        return [found[position] for position in range(len(rules))]

    def build(self) -> list[str]:
        """Build the pages, whole without a network; returns the paths of those to keep, in the site."""
        self._context.build_data_docs(site_names=[_SITE])
        pages = sorted(path.relative_to(self._site).as_posix() for path in self._site.rglob("*.html"))
        kept = [page for page in pages if page.startswith(_PAGES)]
        for page in kept:
            path = self._site / page
            path.write_text(offline(path.read_text(encoding="utf-8")), encoding="utf-8")
        return kept
