"""What pictures of A1111, Forge, ComfyUI and InvokeAI say of how they were made, and what is said where it cannot be read."""

import json
import random
import struct
import zlib
from pathlib import Path

import pytest

from harness.declare.picture_chunks import MOST_TEXT, texts_of, with_texts
from harness.declare.picture_texts import picture_text
from tests.declare.pictures import (
    A1111,
    DREAM,
    FORGE,
    INVOKE,
    OLD_INVOKE,
    WORKFLOW,
    comfy,
    exif_picture,
    graph,
    node,
    png,
    tiff,
)

UNICODE = b"UNICODE\0"


def test_the_parameters_of_a1111_are_read_field_by_field(tmp_path: Path) -> None:
    picture = picture_text(png(tmp_path / "a.png", {"parameters": A1111}))
    assert picture.prompt == "girl with a hat, (blue eyes:1.2), [blurry],\ndesert <lora:ink:0.8>"
    assert picture.negative == "ugly, (extra limb)\nsecond line"
    assert (picture.tool, picture.syntax) == ("A1111", "a1111")
    assert (picture.seed, picture.steps, picture.guidance, picture.clip_skip) == (965400086, 20, 7.5, 2)
    assert (picture.sampler, picture.schedule, picture.width, picture.height) == ("DPM++ 2M", "Karras", 512, 768)
    assert (picture.model, picture.model_hash) == ("v1-5-pruned-emaonly", "6ce0161689")
    assert picture.others == {"Lora hashes": "ink: 0123456789ab, line: ba9876543210", "Version": "v1.10.1"}


def test_forge_is_recognised_by_its_version(tmp_path: Path) -> None:
    picture = picture_text(png(tmp_path / "a.png", {"parameters": FORGE}))
    assert (picture.tool, picture.prompt, picture.negative, picture.guidance) == ("Forge", "a cat", "", 1.0)
    assert picture.others["Distilled CFG Scale"] == "3.5"


@pytest.mark.parametrize("text", ["Grüße aus Köln", "一只猫 (一:1.2)", "emoji 🦊", "plain"])
@pytest.mark.parametrize("packed", [False, True])
def test_texts_of_every_script_come_out_of_png_chunks_unchanged(tmp_path: Path, text: str, packed: bool) -> None:
    file = png(tmp_path / "a.png", {"parameters": f"{text}\nSteps: 1, Sampler: Euler, CFG scale: 1"}, packed=packed)
    assert picture_text(file).prompt == text


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("code", "encoding"), [
    (UNICODE, "utf-16-be"), (UNICODE, "utf-16-le"), (UNICODE, "utf-16"), (b"ASCII\0\0\0", "ascii"), (b"\0" * 8, "utf-8")])
def test_a_user_comment_is_read_in_both_byte_orders(tmp_path: Path, suffix: str, order: str, code: bytes, encoding: str) -> None:
    file = exif_picture(tmp_path / f"a{suffix}", tiff(order, code + A1111.encode(encoding)))
    assert picture_text(file) == picture_text(png(tmp_path / "a.png", {"parameters": A1111}))


def test_a_text_after_the_pixels_is_read(tmp_path: Path) -> None:
    data = png(tmp_path / "a.png", {"parameters": FORGE}).read_bytes()
    chunk_end = data.index(b"IDAT") - 4
    late = data[:33] + data[chunk_end:-12] + data[33:chunk_end] + data[-12:]
    (tmp_path / "b.png").write_bytes(late)
    assert picture_text(tmp_path / "b.png").prompt == "a cat"


def test_a_graph_of_comfyui_is_followed_from_its_sampler(tmp_path: Path) -> None:
    picture = picture_text(comfy(tmp_path / "a.png", graph()))
    assert (picture.tool, picture.syntax) == ("ComfyUI", "comfyui")
    assert (picture.prompt, picture.negative) == ("a (glass:1.2) bottle", "text, watermark")
    assert (picture.seed, picture.steps, picture.guidance, picture.sampler, picture.schedule) == (
        156680208700286, 20, 8.0, "dpmpp_2m", "karras")
    assert (picture.width, picture.height, picture.clip_skip, picture.model) == (512, 768, 2, "v1-5.safetensors")
    assert picture.others == {"lora ink.safetensors": "0.8"}


def test_a_workflow_alone_is_read_like_a_graph(tmp_path: Path) -> None:
    picture = picture_text(png(tmp_path / "a.png", {"workflow": json.dumps(WORKFLOW)}))
    assert (picture.prompt, picture.negative, picture.seed, picture.steps) == ("a pear", "bad", 7, 12)
    assert (picture.width, picture.height, picture.guidance, picture.sampler) == (640, 384, 6.5, "euler")


def test_webp_of_comfyui_keeps_its_graph_in_the_camera_tags(tmp_path: Path) -> None:
    block = tiff(">", b"", {0x010F: "workflow:{}", 0x0110: f"prompt:{json.dumps(graph())}"})
    assert picture_text(exif_picture(tmp_path / "a.webp", block)).prompt == "a (glass:1.2) bottle"


SDXL = {"width": 1024, "height": 1024, "clip": ["11", 0]}
CUSTOM = {
    "n3": node("SamplerCustomAdvanced", noise=["20", 0], guider=["21", 0], sampler=["22", 0], sigmas=["23", 0],
               latent_image=["5", 0]),
    "n20": node("RandomNoise", noise_seed=156680208700286),
    "n21": node("CFGGuider", cfg=8, model=["10", 0], positive=["6", 0], negative=["7", 0]),
    "n22": node("KSamplerSelect", sampler_name="dpmpp_2m"),
    "n23": node("BasicScheduler", scheduler="karras", steps=20, denoise=1, model=["10", 0])}
SAME_MEANING = {
    "two equal texts": {"n6": node("CLIPTextEncodeSDXL", text_g="a (glass:1.2) bottle", text_l="a (glass:1.2) bottle", **SDXL)},
    "an empty second text": {"n6": node("CLIPTextEncodeSDXL", text_g="", text_l="a (glass:1.2) bottle", **SDXL)},
    "a string node": {"n6": node("CLIPTextEncode", text=["30", 0], clip=["11", 0]),
                      "n30": node("PrimitiveString", value="a (glass:1.2) bottle")},
    "joined strings": {"n6": node("CLIPTextEncode", text=["30", 0], clip=["11", 0]),
                       "n30": node("StringConcatenate", string_a="a (glass:1.2)", string_b=["31", 0], delimiter=" "),
                       "n31": node("ShowText|pysssss", text=["32", 0], text_0="?"),
                       "n32": node("String Literal", string="bottle")},
    "numbers of other nodes": {"n40": node("PrimitiveInt", value=156680208700286), "n41": node("PrimitiveFloat", value=8.0),
                               "n3": graph()["3"] | {"inputs": graph()["3"]["inputs"] | {"seed": ["40", 0], "cfg": ["41", 0]}}},
    "a guider": CUSTOM,
    "a second pass": {"n50": node("LatentUpscale", width=1024, height=1536, samples=["3", 0]),
                      "n51": node("KSampler", seed=5, steps=9, cfg=4, sampler_name="euler", scheduler="normal", denoise=0.5,
                                  model=["10", 0], positive=["6", 0], negative=["7", 0], latent_image=["50", 0]),
                      "n8": node("VAEDecode", samples=["51", 0], vae=["4", 2])},
    "a node that loads and encodes": {
        "n20": node("Efficient Loader", ckpt_name="v1-5.safetensors", clip_skip=-2, positive="a (glass:1.2) bottle",
                    negative=["21", 0], empty_latent_width=512, empty_latent_height=768, model=["10", 0]),
        "n21": node("Text Multiline", text="text, watermark"),
        "n3": node("KSampler (Efficient)", seed=156680208700286, steps=20, cfg=8, sampler_name="dpmpp_2m", scheduler="karras",
                   model=["10", 0], positive=["20", 1], negative=["20", 2], latent_image=["20", 3])},
    "a sampler that nothing saves": {
        "n52": graph()["3"] | {"inputs": graph()["3"]["inputs"] | {"positive": ["53", 0], "seed": 1}},
        "n53": node("CLIPTextEncode", text="another", clip=["4", 1])},
}


@pytest.mark.parametrize("change", SAME_MEANING.values(), ids=SAME_MEANING)
def test_a_graph_of_the_same_meaning_is_read_alike(tmp_path: Path, change: dict[str, dict[str, object]]) -> None:
    expected, picture = picture_text(comfy(tmp_path / "a.png", graph())), picture_text(comfy(tmp_path / "b.png", graph(**change)))
    assert picture == expected


def test_nodes_that_take_part_in_the_picture_are_named(tmp_path: Path) -> None:
    control = node("ControlNetApplyAdvanced", strength=0.7, positive=["6", 0], negative=["7", 0], control_net=["61", 0])
    sampler = graph()["3"] | {"inputs": graph()["3"]["inputs"] | {"positive": ["60", 0], "negative": ["60", 1]}}
    picture = picture_text(comfy(tmp_path / "a.png", graph(n3=sampler, n60=control)))
    assert (picture.prompt, picture.negative) == ("a (glass:1.2) bottle", "text, watermark")
    assert picture.others["node '60' ('ControlNetApplyAdvanced')"] == "strength 0.7"


def test_a_picture_that_began_with_another_says_so(tmp_path: Path) -> None:
    sampler = graph()["3"] | {"inputs": graph()["3"]["inputs"] | {"latent_image": ["60", 0], "denoise": 0.5, "model": ["62", 0]}}
    nodes = graph(n3=sampler, n60=node("VAEEncode", pixels=["61", 0]), n61=node("LoadImage", image="mine.png"),
                  n62=node("HypernetworkLoader", hypernetwork_name="h.pt", strength=1.0, model=["10", 0]))
    picture = picture_text(comfy(tmp_path / "a.png", nodes))
    assert picture.others == {
        "node '61' ('LoadImage')": "image mine.png", "denoise": "0.5", "lora ink.safetensors": "0.8",
        "node '62' ('HypernetworkLoader')": "hypernetwork_name h.pt, strength 1.0"}
    assert picture.width is None


def test_two_different_texts_of_sdxl_are_both_given(tmp_path: Path) -> None:
    picture = picture_text(comfy(tmp_path / "a.png", graph(n6=node("CLIPTextEncodeSDXL", text_g="a ship", text_l="oil", **SDXL))))
    assert (picture.prompt, picture.second_prompt, picture.second_negative) == ("a ship", "oil", "")


UNFOLLOWED = {
    "an unknown conditioning": ({"n6": node("FancyEncode", magic="x", clip=["11", 0])}, "node '6' ('FancyEncode')"),
    "an unknown string": ({"n6": node("CLIPTextEncode", text=["30", 0], clip=["11", 0]), "n30": node("Shuffle", text="x")},
                          "node '30' ('Shuffle')"),
    "two texts in one": ({"n70": node("CLIPTextEncode", text="b", clip=["4", 1]),
                          "n6": node("ConditioningCombine", conditioning_1=["7", 0], conditioning_2=["70", 0])},
                         "node '6' ('ConditioningCombine')"),
    "a circle": ({"n6": node("Reroute (rgthree)", **{"": ["6", 0]})}, "leads in a circle"),
    "a circle of strings": ({"n6": node("CLIPTextEncode", text=["30", 0], clip=["11", 0]),
                             "n30": node("StringConcatenate", string_a=["30", 0], string_b=["30", 0])}, "leads in a circle"),
    "a text that is not one": ({"n6": node("CLIPTextEncode", text=7, clip=["11", 0])}, "its input 'text' is not a text"),
    "no sampler": ({"n3": node("Dream", seed=1)}, "no sampler that can be followed"),
    "samplers with other texts": ({
        "n70": node("CLIPTextEncode", text="b", clip=["4", 1]), "n9": node("SaveImage", images=["72", 0]),
        "n71": graph()["3"] | {"inputs": graph()["3"]["inputs"] | {"positive": ["70", 0], "latent_image": ["3", 0]}},
        "n72": node("VAEDecode", samples=["71", 0])}, "have different texts"),
}


@pytest.mark.parametrize(("change", "words"), UNFOLLOWED.values(), ids=UNFOLLOWED)
def test_what_cannot_be_followed_is_an_error_by_name(tmp_path: Path, change: dict[str, dict[str, object]], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        picture_text(comfy(tmp_path / "a.png", graph(**change)))
    assert str(caught.value).startswith("a.png: ")
    assert words in str(caught.value)


def test_the_metadata_of_invokeai_is_read_field_by_field(tmp_path: Path) -> None:
    picture = picture_text(png(tmp_path / "a.png", {"invokeai_metadata": json.dumps(INVOKE)}))
    assert (picture.tool, picture.syntax, picture.prompt, picture.negative) == ("InvokeAI", "plain", "landscape", "low quality")
    assert (picture.seed, picture.steps, picture.sampler, picture.guidance, picture.width, picture.height) == (
        356120443, 50, "dpmpp_2m_sde_k", 7.5, 768, 432)
    assert (picture.clip_skip, picture.model) == (1, "mix")
    assert picture.others == {"app_version": "3.3.0", "generation_mode": "txt2img", "rand_device": "cpu"}


@pytest.mark.parametrize("texts", [{"sd-metadata": json.dumps(OLD_INVOKE)}, {"Dream": DREAM}])
def test_older_texts_of_invokeai_keep_the_negative_in_brackets(tmp_path: Path, texts: dict[str, str]) -> None:
    picture = picture_text(png(tmp_path / "a.png", texts))
    assert (picture.prompt, picture.negative) == ("a dog in rain", "blurry")
    assert (picture.seed, picture.steps, picture.sampler, picture.guidance, picture.width, picture.height) == (
        42, 30, "k_lms", 7.0, 640, 512)


@pytest.mark.parametrize(("texts", "words"), [
    ({}, "it has no texts at all"), ({"Comment": "{}"}, "'Comment'"), ({"parameters": "a cat"}, "no line of settings"),
    ({"parameters": json.dumps({"sui_image_params": {"prompt": "x"}})}, "'sui_image_params'"),
    ({"prompt": json.dumps({"prompt": "a", "styles": []})}, "a table of another tool, with the fields 'prompt', 'styles'"),
    ({"prompt": "{"}, "not valid JSON"), ({"prompt": "[1]"}, "not a table of nodes"), ({"workflow": "{}"}, "no list of nodes"),
    ({"invokeai_metadata": "[]"}, "is not a table"), ({"prompt": "[" * 100_000}, "nested too deeply"),
])
def test_a_picture_without_a_readable_text_says_what_it_has(tmp_path: Path, texts: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        picture_text(png(tmp_path / "a.png", texts))
    assert str(caught.value).startswith("a.png: ")
    assert words in str(caught.value)


def test_a_file_that_is_not_a_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"GIF89a and more")
    with pytest.raises(ValueError, match=r"a\.png: not a PNG, WebP or JPEG image"):
        picture_text(tmp_path / "a.png")


def test_a_compressed_text_is_inflated_to_a_bound_only(tmp_path: Path) -> None:
    data = png(tmp_path / "a.png", {}).read_bytes()
    body = b"parameters\0\0" + zlib.compress(b" " * (MOST_TEXT + 1), 9)
    (tmp_path / "a.png").write_bytes(data[:33] + struct.pack(">I", len(body)) + b"zTXt" + body + b"\0\0\0\0" + data[33:])
    with pytest.raises(ValueError, match="more than 16 MiB of text"):
        picture_text(tmp_path / "a.png")


def test_a_picture_of_any_claimed_size_is_read_without_its_pixels(tmp_path: Path) -> None:
    data = bytearray(png(tmp_path / "a.png", {"parameters": FORGE}).read_bytes())
    data[16:24] = struct.pack(">II", 2 ** 31 - 1, 2 ** 31 - 1)
    (tmp_path / "a.png").write_bytes(data)
    assert picture_text(tmp_path / "a.png").prompt == "a cat"


def samples(folder: Path) -> list[Path]:
    block = tiff("<", UNICODE + A1111.encode("utf-16-be"))
    return [png(folder / "a.png", {"parameters": A1111}), png(folder / "z.png", {"parameters": A1111}, packed=True),
            comfy(folder / "c.png", graph()), png(folder / "w.png", {"workflow": json.dumps(WORKFLOW)}),
            png(folder / "i.png", {"invokeai_metadata": json.dumps(INVOKE)}), exif_picture(folder / "e.jpg", block),
            exif_picture(folder / "e.webp", block)]


def test_damaged_pictures_are_read_or_refused_by_name(tmp_path: Path) -> None:
    """Every truncation of a head, and some thousand mutations: a text, or a ValueError that names the file."""
    draw = random.Random(0)
    for file in samples(tmp_path):
        whole, damaged = file.read_bytes(), tmp_path / f"damaged{file.suffix}"
        cuts = [whole[:size] for size in range(0, len(whole), 7)]
        changed = []
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(draw.randint(1, 6)):
                data[draw.randrange(len(data))] = draw.choice((0, 1, 0x7F, 0xFF, draw.randrange(256)))
            changed.append(bytes(data))
        for data in (*cuts, *changed):
            damaged.write_bytes(data)
            try:
                picture_text(damaged)
            except ValueError as error:
                assert str(error).startswith("damaged.")


def test_written_chunks_are_read_back_and_the_pixels_stay(tmp_path: Path) -> None:
    data = png(tmp_path / "a.png", {}).read_bytes()
    texts = {"parameters": "Grüße\nline", "sweetspot": '{"a": "一"}', "empty": ""}
    (tmp_path / "b.png").write_bytes(with_texts(data, texts))
    assert texts_of(tmp_path / "b.png") == texts
    assert with_texts(data, texts).endswith(data[33:])
