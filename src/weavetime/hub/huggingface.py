"""The public hub through its own client, which honours HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .files import FetchError, Listed, Progress, check, one_line


class HubData:
    """A data set on the public hub, at the commit that `files` found."""

    def __init__(self, data_id: str) -> None:
        self.name = f"hf:{data_id}"
        self._id, self._commit = data_id, ""

    def files(self) -> list[Listed]:
        """Every file of the data set, by path."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        with _understood(self.name, "data set"):
            api = HfApi(endpoint=_endpoint())
            self._commit = api.dataset_info(self._id).sha or "main"
            tree = list(api.list_repo_tree(self._id, repo_type="dataset", revision=self._commit, recursive=True))
        files = [f for f in tree if isinstance(f, RepoFile)]
        listed = [Listed(f.path, f.size, f.lfs.sha256 if f.lfs else f.blob_id) for f in files]
        return sorted(listed, key=lambda f: f.path)

    def fetch(self, file: Listed, folder: Path, progress: Progress) -> Path:
        """Bring one file below `folder`; the client goes on with what is there."""
        from huggingface_hub import hf_hub_download

        with _understood(f"{self.name}/{file.path}", "data set"):
            path = hf_hub_download(
                self._id,
                file.path,
                repo_type="dataset",
                revision=self._commit,
                local_dir=folder,
                endpoint=_endpoint(),
                tqdm_class=_told(progress),
            )
        check(Path(path), file)
        return Path(path)


def fetch_model(model_id: str, patterns: Sequence[str]) -> Path:
    """The folder, in the hub's cache, with a model's files that match `patterns`."""
    from huggingface_hub import snapshot_download

    with _understood(f"hf:{model_id}", "model"):
        return Path(snapshot_download(model_id, allow_patterns=list(patterns)))


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _told(progress: Progress) -> Any:
    """A bar class of the client's kind that shows nothing and says how far a file is."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Told(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.at = int(kwargs.get("initial") or 0)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.at += int(n or 0)
            progress(self.at)

    return Told


@contextmanager
def _understood(name: str, what: str) -> Iterator[None]:
    """The client's errors as FetchError, one line each."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as e:
        raise FetchError(f"{name} is gated: accept its terms on its page and log in with `hf auth login`") from e
    except errors.RepositoryNotFoundError as e:
        raise FetchError(
            f"the hub has no {what} {name.removeprefix('hf:')}, or it is private: check the id, or log in"
        ) from e
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as e:
        raise FetchError(
            f"{name}: the hub cannot be reached and the files are not in its cache; "
            "check the network (and HF_HUB_OFFLINE), or give a local folder"
        ) from e
    except errors.HFValidationError as e:
        raise FetchError(f"{name} is not an id: say OWNER/NAME") from e
    except Exception as e:  # the client's transport, whose errors have other names from version to version
        raise FetchError(f"{name} did not download: {one_line(e)}") from e
