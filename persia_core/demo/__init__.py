"""`persia demo`: real clicks through the whole system, and an honest look at what came out."""

from persia_core.demo.run import run_demo

__all__ = ["run_demo"]
