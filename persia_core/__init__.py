"""Persia: daily training of recommenders with giant embedding tables."""

__version__ = "0.1.0"
