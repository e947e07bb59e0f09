"""Make the starting point of the model that ships: a small, untrained LLaVA-OneVision and a tokenizer of our own.

    python scripts/make_mini.py [FOLDER]        # default: build/mini

The same library versions write the same bytes. The shipped folder, src/weavetime/models/mini, holds trained weights in
their place (`weavetime train mini`): this script does not write there.
"""

from __future__ import annotations

import json
import string
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from weavetime.config import Record

HERE = Path(__file__).parent
FOLDER = HERE.parent / "build/mini"
SHIPPED = HERE.parent / "src/weavetime/models/mini"
WORDS = HERE / "mini_words.txt"
SEED = 2602
VOCABULARY = 3584
POSITIONS = 32768
PAD, START, END, IMAGE, VIDEO = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")

# A time prompt is seven tokens whatever the time, below 100,000 s: `\nTime=0|00|12|.0-0|00|13|.0s`. Pairs of digits
# (not triples) so that training sees each of these tokens often. All other digits stand alone.
TIME_SPLIT = (
    r"[ \n]?Time=\d(?=\d{4}\.\d-\d{5}\.\ds)",
    r"(?<=Time=\d)\d\d(?=\d\d\.\d-\d{5}\.\ds)",
    r"(?<=Time=\d{3})\d\d(?=\.\d-\d{5}\.\ds)",
    r"(?<=Time=\d{5})\.\d-\d(?=\d{4}\.\ds)",
    r"(?<=Time=\d{5}\.\d-\d)\d\d(?=\d\d\.\ds)",
    r"(?<=Time=\d{5}\.\d-\d{3})\d\d(?=\.\ds)",
    r"(?<=Time=\d{5}\.\d-\d{5})\.\ds",
)
TEXT_SPLIT = (
    r"'(?:s|t|re|ve|m|ll|d)\b",
    r" ?\p{L}+",
    r"\p{N}",
    r"[^\s\p{L}\p{N}]",
    r"\n",
    r"[^\S\n]+(?!\S)",
    r"[^\S\n]",
)


def time_tokens() -> Iterator[str]:
    """Every piece that TIME_SPLIT cuts a time prompt into."""
    digits = string.digits
    yield from (f"{lead}Time={d}" for lead in ("\n", " ", "") for d in digits)
    yield from (a + b for a in digits for b in digits)
    yield from (f".{a}-{b}" for a in digits for b in digits)
    yield from (f".{d}s" for d in digits)


def whole_words() -> list[str]:
    """The words of the list, in the forms that they take in text."""
    small, common, in_things = [], [], False
    for line in WORDS.read_text().splitlines():
        if line.startswith("#"):
            in_things = line == "# things"
            continue
        small += line.split()
        common += [] if in_things else line.split()
    forms = [*small, *(f" {w}" for w in small), *(w.capitalize() for w in common)]
    return list(dict.fromkeys(w for w in forms if len(w) > 1))


def as_bytes(text: str) -> str:
    """Text in the alphabet of a byte-level vocabulary, as one piece."""
    return "".join(
        piece for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    )


def make_tokenizer() -> Tokenizer:
    """Bytes, pieces learnt from the word list, whole words, time pieces; `ignore_merges` finds the last two whole."""
    whole = list(dict.fromkeys(as_bytes(t) for t in (*whole_words(), *time_tokens())))
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    room = VOCABULARY - len(SPECIAL)
    trainer = trainers.BpeTrainer(
        vocab_size=room, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    pieces.train_from_iterator((w for w in whole_words() if w[0] == " "), trainer)
    learnt = json.loads(pieces.to_str())["model"]
    known = sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)
    # As many learnt pieces as leave room for every whole entry: later pieces are built from earlier ones, never back.
    count = next(n for n in range(len(known), 0, -1) if len(dict.fromkeys([*known[:n], *whole])) <= room)
    kept = set(known[:count])
    merges = [(a, b) for a, b in learnt["merges"] if {a, b, a + b} <= kept]
    names = [*SPECIAL, *dict.fromkeys([*known[:count], *whole])]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(names)}, merges, ignore_merges=True))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    split = pre_tokenizers.Split(Regex("|".join((*TIME_SPLIT, *TEXT_SPLIT))), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def make_config(tokenizer: Tokenizer) -> LlavaOnevisionConfig:
    """112 px in patches of 14: 8 x 8, pooled by the host to 4 x 4 = 16 tokens a frame."""
    ids = {name: tokenizer.token_to_id(name) for name in SPECIAL}
    text = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ids[END],
        pad_token_id=ids[PAD],
        dtype="bfloat16",
    )
    vision = SiglipVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=3,
        image_size=112,
        patch_size=14,
        vision_use_head=False,
        dtype="bfloat16",
    )
    return LlavaOnevisionConfig(
        text_config=text,
        vision_config=vision,
        image_token_index=ids[IMAGE],
        video_token_index=ids[VIDEO],
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_grid_pinpoints=[[112, 112]],
        tie_word_embeddings=True,
        dtype="bfloat16",
    )


def write_model(folder: Path, tokenizer: Tokenizer) -> int:
    """Weights, config.json and generation_config.json; the number of parameters."""
    config = make_config(tokenizer)
    torch.manual_seed(SEED)
    model = LlavaOnevisionForConditionalGeneration(config).to(torch.bfloat16)
    ids = {"eos_token_id": config.text_config.eos_token_id, "pad_token_id": config.text_config.pad_token_id}
    model.generation_config = GenerationConfig(do_sample=False, **ids)
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    return sum(p.numel() for p in model.parameters())


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """tokenizer.json and tokenizer_config.json."""
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START, IMAGE, VIDEO],
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def write_preprocessor(folder: Path) -> None:
    """How a picture becomes numbers."""
    settings = {
        "image_processor_type": "LlavaOnevisionImageProcessor",
        "processor_class": "LlavaOnevisionProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": 112, "width": 112},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_pad": True,
        "image_grid_pinpoints": [[112, 112]],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n")


CARD = """---
license: apache-2.0
pipeline_tag: video-text-to-text
---

# mini, untrained

The starting point of the small LLaVA-OneVision that ships with `weavetime`.
**Its weights are untrained** (drawn from seed {seed}): its answers mean nothing.

| | |
|---|---|
| parameters | {parameters:,} (bfloat16) |
| vision | SigLIP, 112 x 112 px in patches of 14, 4 layers of 192; 16 tokens a frame after pooling |
| text | Qwen2, 6 layers of 256, 4 query heads and 2 key-value heads of 64, {positions:,} positions |
| tokenizer | byte-level, {vocabulary:,} entries, trained on a word list of our own; a time prompt is 7 tokens |
| training data | none |
"""


def main(folder: Path) -> None:
    """Write the whole folder."""
    if folder.resolve() == SHIPPED.resolve():
        raise SystemExit(f"{folder} holds the trained weights: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    parameters = write_model(folder, tokenizer)
    write_tokenizer(folder, tokenizer)
    write_preprocessor(folder)
    Record(time_prompts=True, window=16, trained=False).write(folder)
    card = CARD.format(seed=SEED, parameters=parameters, positions=POSITIONS, vocabulary=tokenizer.get_vocab_size())
    (folder / "README.md").write_text(card)
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder}: {parameters:,} parameters, {tokenizer.get_vocab_size():,} tokens, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
