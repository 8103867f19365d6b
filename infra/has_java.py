"""Exit 0 if Spark will find a Java that it can run on, else 1. Needs the standard library only.

What is looked at, and in which order, is decided in spark_jobs/java.py alone.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from persia_core.errors import EnvironmentProblem
from spark_jobs.java import find_java_home

with tempfile.TemporaryDirectory() as scratch:
    try:
        find_java_home(Path(scratch))
    except EnvironmentProblem:
        sys.exit(1)
