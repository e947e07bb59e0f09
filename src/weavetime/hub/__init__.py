"""Hubs of models and data sets, the public hub and ModelScope, and data on GitHub: from a name to checked files."""

from .files import FetchError, Listed, UnreachableError, check, one_line
from .names import Repository, data_repository, fetch, is_remote

__all__ = [
    "FetchError",
    "Listed",
    "Repository",
    "UnreachableError",
    "check",
    "data_repository",
    "fetch",
    "is_remote",
    "one_line",
]
