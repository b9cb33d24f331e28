"""The version, as one string: what packaging reads and `sadl.__version__` gives.

Takes nothing; gives `__version__` without the cost of reading the metadata of the distribution.
"""

__version__ = "0.1.0"
