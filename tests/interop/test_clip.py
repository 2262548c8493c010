"""Models that compare images with texts, against what they say themselves."""

import pytest
import torch
from torch.nn import functional

import naspix
from naspix.errors import InputError

PROMPTS = ["a photo of a dog", "a photo of a cat", "a drawing"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """CLIP's own tokenizer over a small word list: each word a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", *dict.fromkeys(" ".join(PROMPTS).split()), "<end>"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", model_max_length=16
    )


def _clip():
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    small |= {"num_attention_heads": 4}
    config = CLIPConfig(
        text_config={**small, "vocab_size": 32, "max_position_embeddings": 16, "eos_token_id": 2},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    return CLIPModel(config)


def _siglip():
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    small |= {"num_attention_heads": 4}
    return SiglipModel(
        SiglipConfig(
            text_config={**small, "vocab_size": 32, "max_position_embeddings": 16},
            vision_config={**small, "image_size": 32, "patch_size": 8},
        )
    )


@pytest.mark.parametrize(("make", "output"), [(_clip, "softmax"), (_siglip, "sigmoid")])
def test_scores_are_those_of_transformers(make, output, tokenizer):
    network = make().train()
    model = naspix.wrap_clip(network, tokenizer, PROMPTS)
    assert network.training
    images = torch.rand(2, 3, 32, 32)
    padding = "max_length" if output == "sigmoid" else True
    tokens = tokenizer(PROMPTS, padding=padding, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        network.eval()
        expected = network(pixel_values=model.standardize(images), **tokens).logits_per_image
        network.train()
    torch.testing.assert_close(model(images).detach(), expected)
    assert model.scores.output == output
    assert model.categories == tuple(PROMPTS)


def test_a_prompt_is_a_class_and_its_regions_are_the_images(tokenizer):
    model = naspix.wrap_clip(_clip(), tokenizer, PROMPTS)
    images = torch.rand(1, 3, 32, 32)
    assert "text_model" not in repr(model)
    assert all("vision_model" in level for level in model.levels)
    assert "vision_model" in repr(model)
    explanation = naspix.explain(model, images, target="a photo of a cat", segmenter="nas")
    assert explanation.target_predictions[0].name == "a photo of a cat"
    assert float(explanation.raw["grad_cam_plus_plus"].max()) > 0


def test_a_whole_processor_makes_the_pictures_too(tokenizer):
    from PIL import Image
    from transformers import CLIPImageProcessor, CLIPProcessor

    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    model = naspix.wrap_clip(_clip(), CLIPProcessor(pictures, tokenizer), PROMPTS)
    photo = Image.effect_noise((60, 40), 90).convert("RGB")
    images = model.load_images(photo)
    expected = pictures(photo, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(model.standardize(images), expected, atol=1e-5, rtol=0)


def test_scores_are_those_of_open_clip():
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    network = open_clip.model.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "layers": 3, "width": 64, "patch_size": 8},
        text_cfg={"layers": 1, "width": 64, "heads": 1},
    )
    tokenizer = open_clip.SimpleTokenizer()
    model = naspix.wrap_clip(network, tokenizer, PROMPTS)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        network.eval()
        own = network.encode_image(model.standardize(images))
        texts = network.encode_text(tokenizer(PROMPTS))
        expected = functional.cosine_similarity(own[:, None], texts[None], dim=2)
    torch.testing.assert_close(model(images).detach(), expected * network.logit_scale.exp())
    assert all("visual" in level for level in model.levels)
    explanation = naspix.explain(model, images[:1], segmenter="nas")
    assert float(explanation.raw["grad_cam_plus_plus"].max()) > 0


def test_what_compares_no_texts_is_refused(tokenizer):
    with pytest.raises(InputError, match="compares images with texts, not Linear"):
        naspix.wrap_clip(torch.nn.Linear(1, 1), tokenizer, PROMPTS)
    with pytest.raises(InputError, match="needs prompts"):
        naspix.wrap_clip(_clip(), tokenizer, [])
