"""`persia hash` as an application: `spark-submit publish_partition.py --config F --ds D [--result-file R]`.

The whole stage, up to the manifest of the hashed partition, in the session that spark-submit was told of.
"""

import sys

from persia_core.cli import main

if __name__ == "__main__":
    main(["hash", *sys.argv[1:]])
