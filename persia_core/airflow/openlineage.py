"""Lineage in the classes of Airflow's OpenLineage provider, which is imported only when it asks."""

from collections.abc import Sequence
from typing import Any

from persia_core.airflow.lineage import LineageDataset, lineage_of
from persia_core.config import load_config
from persia_core.config.home import project_dir


def facets_of(arguments: Sequence[str], result: Any) -> Any:
    """The OperatorLineage of a `persia` command that was given `arguments` and returned `result`."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    config_file, ds = _option(arguments, "--config"), _option(arguments, "--ds")
    if config_file is None or not isinstance(result, dict):
        return OperatorLineage()
    words = arguments[: arguments.index("--config")]
    lineage = lineage_of("_".join(words), load_config(project_dir() / config_file), ds, result)
    return OperatorLineage(
        inputs=[_input(dataset) for dataset in lineage.inputs],
        outputs=[_output(dataset) for dataset in lineage.outputs],
    )


def _option(arguments: Sequence[str], name: str) -> str | None:
    return arguments[arguments.index(name) + 1] if name in arguments else None


def _facets(dataset: LineageDataset) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset, schema_dataset

    facets: dict[str, Any] = {}
    if dataset.columns:
        fields = [
            schema_dataset.SchemaDatasetFacetFields(name=name, type=kind)
            for name, kind in dataset.columns.items()
        ]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    if dataset.version is not None:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=dataset.version)
    return facets


def _input(dataset: LineageDataset) -> Any:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import (
        data_quality_assertions_dataset,
        input_statistics_input_dataset,
    )

    inputs: dict[str, Any] = {}
    if dataset.rows is not None or dataset.bytes is not None:
        inputs["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            rowCount=dataset.rows, size=dataset.bytes
        )
    if dataset.checks:
        made = [
            data_quality_assertions_dataset.Assertion(assertion=name, success=held)
            for name, held in dataset.checks.items()
        ]
        inputs["dataQualityAssertions"] = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            made
        )
    return InputDataset(dataset.namespace, dataset.name, facets=_facets(dataset), inputFacets=inputs)


def _output(dataset: LineageDataset) -> Any:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    outputs: dict[str, Any] = {}
    if dataset.rows is not None or dataset.bytes is not None:
        outputs["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=dataset.rows, size=dataset.bytes
        )
    return OutputDataset(dataset.namespace, dataset.name, facets=_facets(dataset), outputFacets=outputs)
