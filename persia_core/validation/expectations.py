"""Importing Great Expectations: seconds of work, so only when a partition is checked."""

import importlib
import logging
import os
from typing import Any


def great_expectations() -> Any:
    """The module, its analytics off and its log kept to warnings."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the module is imported
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    return importlib.import_module("great_expectations")


def expectation_classes() -> Any:
    """The module that holds the classes of expectations."""
    great_expectations()
    return importlib.import_module("great_expectations.expectations")
