"""Names of models on a hub, `hf:OWNER/NAME` and `modelscope:OWNER/NAME`, and the local folder of their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .modelscope import FetchError, download

__all__ = ["FetchError", "fetch", "is_remote", "one_line"]

HUB, MODELSCOPE = "hf:", "modelscope:"


def is_remote(name: str) -> bool:
    """Whether `name` says which hub it is on."""
    return name.startswith((HUB, MODELSCOPE))


def one_line(e: BaseException) -> str:
    """The first line of an error's message, or its type where it has none: this package's errors are one line each."""
    return next(iter(str(e).strip().splitlines()), type(e).__name__)


def fetch(name: str, patterns: Sequence[str]) -> Path:
    """The folder with the files of `hf:ID` or `modelscope:ID` that match `patterns`; from the cache where they are.

    Raises FetchError, one line: no such model, no access, or no connection and nothing in the cache.
    """
    if name.startswith(MODELSCOPE):
        return download(name.removeprefix(MODELSCOPE), patterns)
    return _fetch_hub(name.removeprefix(HUB), patterns)


def _fetch_hub(model_id: str, patterns: Sequence[str]) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(model_id, allow_patterns=list(patterns)))
    except errors.GatedRepoError as e:
        raise FetchError(f"hf:{model_id} is gated: accept its terms on its page and log in with `hf auth login`") from e
    except errors.RepositoryNotFoundError as e:
        raise FetchError(f"the hub has no model {model_id}, or it is private: check the id") from e
    except errors.LocalEntryNotFoundError as e:
        raise FetchError(
            f"hf:{model_id}: the hub cannot be reached and the files are not in its cache; "
            "check the network (and HF_HUB_OFFLINE), or give a local folder"
        ) from e
    except errors.HFValidationError as e:
        raise FetchError(f"hf:{model_id} is not an id: say OWNER/NAME") from e
    except Exception as e:  # the client's transport, whose errors have other names from version to version
        raise FetchError(f"hf:{model_id} did not download: {one_line(e)}") from e
