"""What training asks of every family: words cut as a stream cuts them, and a gradient for all that is trained."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

import weavetime as wt
from tiny import FAMILY_NAMES, SPECIAL, engine, host, per_step, shown
from weavetime.config import Decoding
from weavetime.train.encode import ANSWER, RECONSTRUCTION, Step, Turn, encode
from weavetime.train.recipe import Recipe, Tuning
from weavetime.train.tuning import tune

TURNS = (Turn("When?", "Correct timestamps", RECONSTRUCTION), Turn("What is it?", "A cup"), Turn("And then?", "B"))


def vicuna() -> PreTrainedTokenizerFast:
    """Cuts text as Vicuna's: a space before every stretch of it, and a word's first token begins with its space."""
    space, letters = "\u2581", sorted({*map(chr, range(33, 127)), "\n"})
    vocabulary = {c: i for i, c in enumerate([space, *letters, *(space + c for c in letters)])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[(space, c) for c in letters if c != "\n"]))
    core.normalizer = normalizers.Sequence([normalizers.Prepend(space), normalizers.Replace(" ", space)])
    core.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=core)


@pytest.mark.parametrize("family", ["video_llava", "flash_vstream"])
def test_turns_are_cut_as_in_the_streams_prompt(family: str) -> None:
    backbone = engine(family, time_prompts=True).backbone
    backbone.tokenizer = vicuna()
    found = encode(backbone, [Step((shown(family, 1)[0],), 0.0, 1.0)], [0], TURNS)
    history = tuple((t.question, t.answer) for t in TURNS[:2])
    prompt = backbone.prompt(wt.Question(TURNS[2].question, history=history), Decoding()).ids.tolist()
    answer = backbone.encode(f"{TURNS[2].answer}</s>")
    assert found.ids.tolist()[-len(prompt) - len(answer) :] == prompt + answer
    for part, turns in ((RECONSTRUCTION, TURNS[:1]), (ANSWER, TURNS[1:])):
        wanted = [i for t in turns for i in backbone.encode(f"{t.answer}</s>")]
        assert found.labels[found.parts == part].tolist() == wanted


@pytest.mark.parametrize("family", [family for family in FAMILY_NAMES if per_step(family) == 1])
def test_all_that_is_trained_has_a_gradient(family: str) -> None:
    """A process group waits for each: the tower's parts behind what is taken of it are not trained."""
    model = host(family)
    if family == "video_llava":
        del model.model.image_tower  # as loading does
    recipe = Recipe("all", "m", tuning=Tuning(full=True, projector=True, vision=True))
    tune(model, family, recipe)
    backbone, frames = engine(family, time_prompts=True, model=model).backbone, shown(family, 2)
    [steps] = backbone.steps(frames, backbone.grid(*frames[0].pixels.shape[:2]), 1.0)
    out = backbone.decoder(inputs_embeds=steps.embeds, use_cache=False).last_hidden_state
    backbone.logits(out).square().mean().backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    tower = {name for name, _ in backbone.vision.named_parameters()}
    unused = {name for name, p in backbone.vision.named_parameters() if not p.requires_grad}
    clip = {name for name in tower if name.startswith("encoder.layers.2.")} if family != "llava_onevision" else set()
    assert unused == clip | {name for name in tower if name.startswith("post_layernorm.")}
    assert torch.isfinite(out).all()
