"""Say what is missing before a C++ build fails with a page of output."""

import os
import shutil
import sys

compiler = os.environ.get("CXX") or next(
    (name for name in ("c++", "g++", "clang++") if shutil.which(name)), None
)
if compiler is None or shutil.which(compiler.split()[0]) is None:
    sys.exit(
        "error: no C++ compiler was found\n"
        "  what to do: install one that knows C++20 (Debian: g++), or name it: make CXX=/path/to/c++"
    )
