"""What is known of a family before a model of it is loaded: how its files are recognised and read, what was published.

`Backbone` adds what a loaded model does. A family is one file with one class that fills in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

TESTED = "tiny checkpoint in the published format; the real weights were not at hand"
# Sizes of the language model that several families share; what each changed in it stands in its own file.
QWEN2_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
}


@dataclass(frozen=True)
class Published:
    """One published checkpoint.

    name: its hub id. shape: its short name here. config: makes the transformers config of its size. licence: of the
    weights. tested: how loading it was tested.
    """

    name: str
    shape: str
    config: Callable[[], Any]
    licence: str
    tested: str = TESTED


class Family:
    """How a family's folders are told from others, and how they become the unmodified transformers class."""

    family: ClassVar[str]
    """Its name, which records, adapters and results carry."""
    host: ClassVar[str]
    """The transformers class that runs it."""
    projector: ClassVar[str]
    """The module between vision tower and language model, as the host names it."""
    frames_per_step: ClassVar[int] = 1
    """Frames that one step shows: 1, or 2 where the family takes them in pairs."""
    renames: ClassVar[Mapping[str, str]] = {}
    """Published names of weights that transformers does not know: pattern to replacement, as in re.sub."""
    unused: ClassVar[tuple[str, ...]] = ()
    """Starts of published names of weights that are known and that this family does without."""
    dropped: ClassVar[tuple[str, ...]] = ()
    """Modules of the host that this family does without: taken out after loading, and no weights need be there."""
    preprocessor: ClassVar[Mapping[str, Any]] = {}
    """image_mean, image_std and so on, where a checkpoint has no file that says them."""
    older_layout: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Starts of names in adapters made on another layout of the host, and the host's own."""
    published: ClassVar[tuple[Published, ...]] = ()

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> bool:
        """Whether a folder whose config.json says this is of this family; asked in the registry's order."""
        return config.get("model_type") == cls.family

    @classmethod
    def host_config(cls, folder: Path, config: Mapping[str, Any]) -> Any:
        """The host's config, from a folder of this family and its config.json. May read the headers of weights.

        Raises ModelError, or whatever transformers does, where the folder cannot be used.
        """
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
