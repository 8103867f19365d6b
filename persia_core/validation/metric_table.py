"""The gate's checks as a table of metric expectations, held and evaluated by Great Expectations.

One column per check and one row, the candidate. A figure that is missing is a null, which its column must
not hold; a bound is the range of its column.
"""

from collections.abc import Sequence
from typing import Any

from persia_core.validation.expectations import expectation_classes, great_expectations
from persia_core.validation.verdict import ModelCheck


def unmet(checks: Sequence[ModelCheck]) -> set[str]:
    """Names of the checks whose expectation is not met; skipped ones have none."""
    import pandas as pd

    judged = [check for check in checks if not check.skipped]
    if not judged:
        return set()
    gx = great_expectations()
    frame = pd.DataFrame({check.name: [check.value] for check in judged}, dtype="float64")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("gate").add_dataframe_asset("candidate")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    done = batch.validate(metric_suite(judged), result_format="BOOLEAN_ONLY")
    return {str(item.expectation_config.kwargs["column"]) for item in done.results if not item.success}


def metric_suite(checks: Sequence[ModelCheck]) -> Any:
    """The suite: for each check that there is a figure, and that it is within its bounds."""
    gx, gxe = great_expectations(), expectation_classes()
    suite = gx.ExpectationSuite(name="model gate")
    for check in checks:
        suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=check.name))
        suite.add_expectation(
            gxe.ExpectColumnValuesToBeBetween(
                column=check.name, min_value=check.at_least, max_value=check.at_most
            )
        )
    return suite
