"""LongVA, Video-LLaVA and Flash-VStream from what is published: names, config, vision, prompts; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import weavetime as wt
from published import ORIGINAL, clip, publish
from reference import CLIP, SINK, question_text, time_prompt
from tiny import engine, frames, host, look, shared, shown, untouched
from weavetime.backbones import FAMILIES, Grid, families
from weavetime.backbones.adapters import load_adapter
from weavetime.backbones.checkpoints import load_model, open_checkpoint
from weavetime.backbones.family import Family
from weavetime.backbones.identity import fingerprint
from weavetime.backbones.values import resized
from weavetime.errors import AdapterError, ModelError
from weavetime.ops import place

exact = pytest.mark.exact
each = pytest.mark.parametrize("family", CLIP)
PLACES = {"longva": 4, "video_llava": 17, "flash_vstream": 4}  # tokens a frame of the tiny ones


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each family's tiny model as published; not to be changed."""
    return {f: publish(tmp_path_factory.mktemp("published") / f, f, untouched(f)) for f in CLIP}


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str], Path]:
    """A published folder of one's own."""
    return lambda family: publish(tmp_path / family, family, untouched(family))


def edit(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]], file: str = "model.safetensors") -> None:
    path = folder / file
    if path.suffix == ".json":
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
    else:
        save_file(change(load_file(path)), path, metadata={"format": "pt"})


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        wt.load(folder)
    assert "\n" not in str(caught.value)


# What is published


@exact
@each
def test_every_published_weight_is_where_the_host_has_it(folders: dict[str, Path], family: str) -> None:
    checkpoint = open_checkpoint(folders[family], families())
    assert checkpoint.family == family
    model = load_model(checkpoint, dtype=None, device="cpu")
    found, expected = model.state_dict(), untouched(family).state_dict()
    gone = {name for name in expected if name.startswith("model.image_tower.")}
    assert bool(gone) == (family == "video_llava")
    assert found.keys() == expected.keys() - gone
    for name, weight in found.items():
        assert torch.equal(weight, expected[name]), name
    assert type(model).__name__ == FAMILIES[family].host


@exact
@each
@pytest.mark.parametrize("segments", [True, False])
def test_a_published_folder_streams_as_its_model_does(folders: dict[str, Path], family: str, segments: bool) -> None:
    seen = shown(family, 5)
    found = []
    for made in (wt.load(folders[family], time_prompts=segments), shared(family, segments)):
        stream = made.stream(window=2, batch=2)
        stream.feed(seen)
        found.append(look(stream, "What is it?", mode=wt.WeaveTime(k=3, delta=0)).draft.logits)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", ["qwen2", "llava_qwen", "llava", "some_name"])
def test_longva_is_known_by_its_tower(copy: Callable[[str], Path], model_type: str) -> None:
    folder = copy("longva")
    edit(folder, lambda c: {**c, "model_type": model_type}, "config.json")
    assert wt.load(folder).backbone.family == "longva"


def test_each_config_is_one_familys(folders: dict[str, Path]) -> None:
    for family, folder in folders.items():
        said = json.loads((folder / "config.json").read_text())
        assert [kind.family for kind in FAMILIES.values() if kind.claims(said)] == [family]


def test_the_rotary_base_is_the_checkpoints_own(copy: Callable[[str], Path]) -> None:
    for theta in (1e9, 5e5):
        folder = copy("longva")
        edit(folder, lambda c, theta=theta: {**c, "rope_theta": theta}, "config.json")
        rotary = wt.load(folder).backbone.rotary.module
        torch.testing.assert_close(rotary.inv_freq, theta ** (-torch.arange(0, 16, 2) / 16))


def test_stars_weights_are_let_be_and_no_others(copy: Callable[[str], Path]) -> None:
    folder = copy("flash_vstream")
    held = [name for name in load_file(folder / "model.safetensors") if name.startswith("model.attention_model.")]
    assert len(held) == 10
    edit(folder, lambda w: {**w, "model.attention.weight": torch.ones(2)})
    refused(folder, "1 weights are unexpected.*model.attention.weight")
    folder = copy("longva")
    edit(folder, lambda w: {**w, held[0]: torch.ones(2)})
    refused(folder, "1 weights are unexpected")


def test_the_image_tower_need_not_be_there(copy: Callable[[str], Path]) -> None:
    folder = copy("video_llava")
    edit(folder, lambda w: {k: v for k, v in w.items() if not k.startswith("image_tower.")})
    made = wt.load(folder)
    assert not hasattr(made.backbone.model.model, "image_tower")
    stream = made.stream()
    stream.feed(shown("video_llava", 2))
    assert stream.ask("What?").tokens


# Vision


def by_hand(family: str, folder: Path, pictures: torch.Tensor) -> torch.Tensor:
    """CLIP by itself, layer and tokens chosen, projector and pooling in the family's order, from published names."""
    held = load_file(folder / "model.safetensors")
    start = "video_tower.vision_model." if family == "video_llava" else ORIGINAL[0][1]
    tower = CLIPVisionModel(CLIPVisionConfig(**clip())).eval()
    tower.load_state_dict({k.removeprefix(start): v for k, v in held.items() if k.startswith(start)})
    first, second = ("multi_modal_projector.linear_1", "multi_modal_projector.linear_2")
    if family != "video_llava":
        first, second = "model.mm_projector.0", "model.mm_projector.2"

    def project(x: torch.Tensor) -> torch.Tensor:
        x = functional.gelu(functional.linear(x, held[f"{first}.weight"], held[f"{first}.bias"]))
        return functional.linear(x, held[f"{second}.weight"], held[f"{second}.bias"])

    def pool(x: torch.Tensor) -> torch.Tensor:
        square = x.view(len(x), 2, 2, 2, 2, -1)  # (frames, rows, row in a window, columns, column in a window, width)
        return square.mean((2, 4)).flatten(1, 2)

    with torch.no_grad():
        layer = tower(pictures, output_hidden_states=True).hidden_states[2]  # the input, then three layers
        patches = layer[:, 1:]
        orders = {
            "longva": lambda: pool(project(patches)),
            "flash_vstream": lambda: project(pool(patches)),
            "video_llava": lambda: project(layer),
        }
        return orders[family]()


@exact
@each
def test_vision_is_the_familys_own_order_by_hand(folders: dict[str, Path], family: str) -> None:
    seen = frames(3, size=(28, 28))
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pictures = torch.stack([(f.pixels / 255 - mean) / std for f in seen]).permute(0, 3, 1, 2)
    backbone = shared(family, False).backbone
    with torch.no_grad():
        found = backbone.embed(seen, backbone.grid(28, 28))
    assert found.shape == (3, PLACES[family], 64)
    torch.testing.assert_close(found, by_hand(family, folders[family], pictures), atol=1e-5, rtol=0)


def test_what_star_remembers_is_before_the_projector() -> None:
    backbone: Any = shared("flash_vstream", False).backbone
    pictures = torch.rand(2, 3, 28, 28) * 255
    with torch.no_grad():
        pooled = backbone.pooled(pictures)
        assert pooled.shape == (2, 4, 32)
        torch.testing.assert_close(backbone.project(pooled), backbone.features(pictures, backbone.grid(1, 1)))


@pytest.mark.parametrize("size", [(360, 640), (640, 360), (28, 28), (20, 30), (31, 29), (500, 64)], ids=str)
def test_pictures_are_cropped_as_the_image_processor_does(size: tuple[int, int]) -> None:
    """PIL's bicubic differs from torch's by a level here and there."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    smooth = np.stack([(rows * 3) % 256, (columns * 2) % 256, (rows + columns) % 256], -1)
    picture = np.clip(smooth, 0, 255).astype(np.uint8)
    grid = Grid(28, 28, 4, 4, crop=True)
    found = resized([wt.Frame(picture, 0.0)], grid)[0]
    processor = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    made = processor(picture, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    apart = (found - torch.from_numpy(np.asarray(made, np.float32))).abs()
    assert found.shape == (3, 28, 28)
    assert float(apart.mean()) < 0.6
    assert float(apart.quantile(0.99)) <= 2


# Positions and prompts


@exact
@each
@pytest.mark.parametrize("segments", [True, False])
def test_positions_count_up(family: str, segments: bool) -> None:
    backbone = shared(family, segments).backbone
    layout = backbone.block(backbone.grid(20, 30), 5 if segments else 0)
    count = PLACES[family] + (5 if segments else 0)
    placed = place([layout] * 3, 7, 1)
    assert placed.positions.tolist() == [list(range(7, 7 + 3 * count))]
    assert placed.end == 7 + 3 * count
    assert layout.visual == slice(5 if segments else 0, count)


CONVERSATIONS = {
    "longva": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{video}\nWho?<|im_end|>\n"
    "<|im_start|>assistant\nMe.<|im_end|>\n<|im_start|>user\n\nWhen?<|im_end|>\n<|im_start|>assistant\n",
    "video_llava": "<s>USER: {video}\nWho? ASSISTANT: Me.</s>USER: \nWhen? ASSISTANT:",
    "flash_vstream": "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: {video}\nWho?ASSISTANT: Me.</s>USER: \n"
    "When?ASSISTANT:",
}


@each
def test_a_conversation_is_put_as_published(family: str) -> None:
    """The strings of zhangyl4/weavetime@68b6583, model/*_rekv.py."""
    backbone = shared(family, False).backbone
    sink, text = backbone.sink
    prompt = backbone.prompt(wt.Question("When?", (), (("Who?", "Me."),)), wt.Decoding())
    said = backbone.tokenizer.decode(sink) + "{video}" + backbone.tokenizer.decode(prompt.ids)
    assert said == CONVERSATIONS[family]
    assert (text, prompt.head) == (len(sink), 0)
    assert backbone.tokenizer.decode(sink) == SINK[family]
    options = backbone.tokenizer.decode(backbone.prompt(wt.Question("Q", ("a", "b")), wt.Decoding()).ids)
    assert options == question_text(family, "Q", ("a", "b"))
    assert time_prompt(family, 3, 4) == backbone.strings.time.format(start=3.0, end=4.0)


def test_what_ends_an_answer() -> None:
    for family, stop in (("longva", "<|im_end|>"), ("video_llava", "</s>"), ("flash_vstream", "</s>")):
        backbone = shared(family, False).backbone
        assert backbone.tokenizer.convert_tokens_to_ids(stop) in backbone.stops


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """A space is put before every text, so a letter that begins one is another token than the letter inside."""
    pieces = ["<unk>", "<s>", "</s>", "▁", *map(chr, range(33, 127)), "\n", *(f"▁{c}" for c in "ABCDU")]
    core = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=[("▁", c) for c in "ABCDU"]))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    core.decoder = decoders.Metaspace(prepend_scheme="always")
    core.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def test_a_sentencepiece_tokenizer_begins_with_bos_once_and_letters_are_those_after_the_bracket() -> None:
    made = engine("video_llava", time_prompts=False)
    backbone, words = made.backbone, sentencepiece_like()
    backbone.tokenizer = words
    sink = backbone.sink[0].tolist()
    assert words.convert_ids_to_tokens(sink) == ["<s>", "▁U", "S", "E", "R", ":", "▁"]
    prompt = backbone.prompt(wt.Question("Q", ("x", "y")), wt.Decoding())
    assert 1 not in prompt.ids.tolist(), "no <s> before the question"
    assert words.convert_ids_to_tokens(list(prompt.letters)) == ["A", "B"]
    assert words.encode("A", add_special_tokens=False) != [prompt.letters[0]]


def test_a_tokenizer_of_another_family_is_told() -> None:
    made = engine("flash_vstream", time_prompts=False)
    made.backbone.tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(ModelError, match="no <s>"):
        made.stream()


# Few positions


@each
def test_the_default_window_leaves_room_for_a_question(family: str) -> None:
    made = engine(family, time_prompts=False)
    assert made.stream().config.window == 80
    made.backbone.max_positions = 800
    sink, tokens = len(made.backbone.sink[0]), PLACES[family]
    window = made.stream().config.window
    assert window == min(80, (700 - sink) // tokens - 1)
    made.stream(window=None).feed(shown(family, 3))
    with pytest.raises(wt.CapacityError, match=f"at most {(800 - sink) // tokens - 1} blocks"):
        made.stream(window=500).feed(shown(family, 1))


# What is refused


def test_a_missing_tower(copy: Callable[[str], Path]) -> None:
    for family in CLIP:
        folder = copy(family)
        edit(folder, lambda w: {k: v for k, v in w.items() if "vision_tower" not in k and "video_tower" not in k})
        refused(folder, "weights are missing.*video_tower" if family == "video_llava" else "no vision tower.*own")


def test_a_tower_of_another_kind(copy: Callable[[str], Path]) -> None:
    folder = copy("longva")
    edit(folder, lambda w: {k: v for k, v in w.items() if "class_embedding" not in k})
    refused(folder, "no CLIP tower.*class_embedding")


@each
def test_a_renamed_projector(copy: Callable[[str], Path], family: str) -> None:
    folder = copy(family)
    edit(folder, lambda w: {k.replace("_projector", "_adapter"): v for k, v in w.items()})
    refused(folder, "4 weights are missing.*multi_modal_projector")


@pytest.mark.parametrize("family", ["longva", "flash_vstream"])
def test_two_weights_for_one_place(copy: Callable[[str], Path], family: str) -> None:
    folder = copy(family)
    edit(folder, lambda w: {**w, "model.language_model.norm.weight": 7 * w["model.norm.weight"]})
    refused(folder, r"model\.norm\.weight.* are both model\.language_model\.norm\.weight")


@pytest.mark.parametrize(
    ("key", "value"),
    [("mm_projector_type", "linear"), ("mm_vision_select_feature", "cls_patch"), ("mm_spatial_pool_stride", 4)],
)
def test_another_model_under_longvas_settings(copy: Callable[[str], Path], key: str, value: Any) -> None:
    folder = copy("longva")
    edit(folder, lambda c: {**c, key: value}, "config.json")
    refused(folder, f"{key} is {value!r}, and longva has")


@pytest.mark.parametrize(("weights", "config"), [("longva", "flash_vstream"), ("flash_vstream", "longva")])
def test_the_config_of_another_family(copy: Callable[[str], Path], weights: str, config: str) -> None:
    folder, other = copy(weights), copy(config)
    (folder / "config.json").write_bytes((other / "config.json").read_bytes())
    refused(folder, f"weights are (missing|unexpected).*{config}")


def test_the_config_of_a_hub_class_over_original_names(copy: Callable[[str], Path]) -> None:
    folder, other = copy("longva"), copy("video_llava")
    (folder / "config.json").write_bytes((other / "config.json").read_bytes())
    refused(folder, "weights are missing.*video_llava")


@pytest.mark.parametrize("said", [{"model_type": "qwen2"}, {"model_type": "vstreamer"}, {}])
def test_an_unknown_model_type(copy: Callable[[str], Path], said: dict[str, Any]) -> None:
    folder = copy("longva")
    (folder / "config.json").write_text(json.dumps(said))
    refused(folder, f"is a {said.get('model_type')} model, not one of the supported: .*longva.*video_llava")


def test_pickled_weights(copy: Callable[[str], Path]) -> None:
    for family in CLIP:
        folder = copy(family)
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        refused(folder, rf"only pickled \.bin weights.*weavetime convert {folder} OUT")
        (folder / "pytorch_model.bin").unlink()
        (folder / "pytorch_model.bin.index.json").write_text("{}")  # what a hub folder holds of such a model
        refused(folder, "weavetime convert")


def test_a_family_that_is_not_among_those_asked_for(folders: dict[str, Path]) -> None:
    others: dict[str, type[Family]] = {"qwen2_vl": FAMILIES["qwen2_vl"], "llava_onevision": FAMILIES["llava_onevision"]}
    with pytest.raises(ModelError, match="is a vstream model, not one of the supported: llava_onevision, qwen2_vl"):
        open_checkpoint(folders["flash_vstream"], others)


def test_a_tokenizer_model_alone_says_what_it_needs(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy("flash_vstream")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "tokenizer.model").write_bytes(b"")
    monkeypatch.setattr("weavetime.backbones.checkpoints.find_spec", lambda module: None)
    refused(folder, "tokenizer.model alone.*pip install sentencepiece protobuf")


# Adapters


def test_an_adapter_merges_and_the_merged_folder_is_still_the_family(
    kit: SimpleNamespace, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    from weavetime.train.folders import merge

    for family in CLIP:
        made = kit.make_adapter(tmp_path / f"{family}-adapter", host(family))
        merge(copy(family), made.folder, tmp_path / f"{family}-merged")
        merged = wt.load(tmp_path / f"{family}-merged")
        assert merged.backbone.family == family
        assert merged.record.time_prompts
        torch.testing.assert_close(kit.logits(merged.backbone.model), made.logits, atol=1e-4, rtol=0)


@each
def test_an_adapter_of_an_older_layout(kit: SimpleNamespace, tmp_path: Path, family: str) -> None:
    """Under the names of the published code, or of transformers before 4.52."""
    made = kit.make_adapter(tmp_path / "a", host(family), target_modules=["q_proj", "up_proj", "embed_tokens"])
    old = "language_model.model." if family == "video_llava" else "model."
    made.edit(lambda w: {k.replace("model.language_model.", old): v for k, v in w.items()})
    model = host(family)
    load_adapter(model, made.folder, family=family, time_prompts=None)
    torch.testing.assert_close(kit.logits(model), made.logits, atol=1e-4, rtol=0)


def test_an_adapter_made_for_another_family(kit: SimpleNamespace, folders: dict[str, Path], tmp_path: Path) -> None:
    made = kit.make_adapter(tmp_path / "a", host("longva"))
    made.configure(auto_mapping={"base_model_class": "LlavaForConditionalGeneration"})
    with pytest.raises(AdapterError, match=r"was made for .* \(LlavaForConditionalGeneration\), this model is video"):
        wt.load(folders["video_llava"], adapter=made.folder)
    record = {"time_prompts": True, "base": fingerprint(host("longva"))}  # two families on one host class
    (made.folder / "weavetime.json").write_text(json.dumps(record))
    with pytest.raises(AdapterError, match="trained on another base"):
        wt.load(folders["flash_vstream"], adapter=made.folder)
