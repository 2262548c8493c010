"""CLIP and its like: models that compare images with texts, as classifiers whose classes are texts.

Works with transformers' (CLIP, SigLIP and others with ``get_image_features``) and open_clip's.
Nothing is imported: model and processor are given, so nothing is downloaded either.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from naspix.errors import InputError
from naspix.models import Classifier
from naspix.models.asking import evaluating
from naspix.models.huggingface import Processed

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's


def wrap_clip(
    model: nn.Module,
    processor_or_tokenizer: Any,
    prompts: Sequence[str],
    *,
    name: str | None = None,
    levels: Sequence[str] | None = None,
) -> Classifier:
    """Make a classifier of a model that compares images with texts; each text is a class.

    An image's scores are its similarities to the texts, multiplied as the model does; their softmax
    is the usual zero-shot prediction. SigLIP's are sigmoids', each on its own.

    Args:
        model: transformers' ``CLIPModel``, ``SiglipModel`` and the like, or open_clip's. It is not
            changed.
        processor_or_tokenizer: Makes tokens of the texts: transformers' processor, which makes the
            pictures too, or a tokenizer, or open_clip's tokenizer. With a tokenizer alone, images
            are standardised as the model says, and as OpenAI's models want them where it does not.
        prompts: The classes, such as ``"a photo of a dog"``.
        name: What to call it in reports.
        levels: Module names, shallow first, to be levels 0, 1, 2 and so on; found if not given.

    Raises:
        InputError: There are no prompts, or the model does not compare images with texts.

    Source:
        Radford et al. (2021), section 3.1; Zhai et al. (2023) for SigLIP.

    Example:
        A model of open_clip's, with ``import open_clip``::

            network = open_clip.create_model("ViT-B-32", pretrained="laion2b_s34b_b79k")
            prompts = ["a photo of a dog", "a photo of a cat"]
            model = wrap_clip(network, open_clip.get_tokenizer("ViT-B-32"), prompts)
            naspix.explain(model, "pets.jpg", target="a photo of a cat")
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError("wrap_clip needs prompts, a list of texts that are the classes")
    of_transformers = hasattr(model, "get_image_features") and hasattr(model, "get_text_features")
    if not of_transformers and not (
        hasattr(model, "encode_image") and hasattr(model, "encode_text")
    ):
        raise InputError(
            f"wrap_clip takes a model that compares images with texts, not {type(model).__name__}: "
            "one with get_image_features and get_text_features (transformers), or encode_image and "
            "encode_text (open_clip)"
        )
    image_processor = getattr(processor_or_tokenizer, "image_processor", None)
    processed = None if image_processor is None else Processed.by(image_processor)
    embed = _embed_transformers if of_transformers else _embed_open_clip
    with torch.no_grad(), evaluating(model):
        embeddings = functional.normalize(embed(model, processor_or_tokenizer, texts), dim=-1)
    network = _ImageTextScores(model, of_transformers, embeddings.float())
    visual = getattr(model, "visual", None)
    size = getattr(
        getattr(getattr(model, "config", None), "vision_config", None), "image_size", None
    )
    size = size or getattr(visual, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    return Classifier(
        network,
        name=name or type(model).__name__,
        input_size=(height, width) if processed is None else processed.size,
        mean=_listed(visual, "image_mean", _MEAN) if processed is None else _flat(processed.mean),
        std=_listed(visual, "image_std", _STD) if processed is None else _flat(processed.std),
        categories=texts,
        levels=levels,
        output="sigmoid" if network.bias is not None else "softmax",
        crop_pct=1.0,
        interpolation="bicubic",
        preprocess=processed,
    )


class _ImageTextScores(nn.Module):
    """Standardised images in, their similarities to fixed texts out."""

    texts: Tensor

    def __init__(
        self, model: nn.Module, of_transformers: bool, texts: Float[Tensor, "n D"]
    ) -> None:
        super().__init__()
        self.model = model
        self.of_transformers = of_transformers
        self.register_buffer("texts", texts)
        bias = getattr(model, "logit_bias", None)
        self.bias = bias if isinstance(bias, Tensor) else None

    def forward(self, images: Tensor) -> Float[Tensor, "B n"]:
        model: Any = self.model
        if self.of_transformers:
            found = _pooled(model.get_image_features(pixel_values=images))
        else:
            found = model.encode_image(images)
        scores = functional.normalize(found, dim=-1) @ self.texts.to(found).T
        scores = scores * model.logit_scale.exp()
        shifted: Tensor = scores if self.bias is None else scores + self.bias
        return shifted


def _embed_transformers(model: Any, processor: Any, texts: list[str]) -> Float[Tensor, "n D"]:
    # SigLIP was trained on texts filled up to the greatest length
    padding = "max_length" if getattr(model, "logit_bias", None) is not None else True
    tokens = processor(text=texts, padding=padding, truncation=True, return_tensors="pt")
    wanted = {key: value.to(model.device) for key, value in tokens.items() if key != "pixel_values"}
    return _pooled(model.get_text_features(**wanted))


def _embed_open_clip(model: Any, tokenizer: Any, texts: list[str]) -> Float[Tensor, "n D"]:
    found = model.encode_text(tokenizer(texts).to(next(model.parameters()).device))
    assert isinstance(found, Tensor)  # of open_clip's
    return found


def _pooled(features: Any) -> Tensor:
    """Embeddings as one tensor; transformers 5 hands on a whole output."""
    found = features if isinstance(features, Tensor) else features.pooler_output
    assert isinstance(found, Tensor)  # of both
    return found


def _listed(owner: object, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(getattr(owner, name, None) or default)


def _flat(values: Tensor) -> list[float]:
    return [float(value) for value in values.flatten()]
