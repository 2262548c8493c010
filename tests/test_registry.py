"""Names mean what the command line, the titles and the errors say."""

from typing import get_args

import pytest

from naspix import registry
from naspix.cli.options import DatasetName, MethodName, SegmenterName
from naspix.errors import UnknownNameError

OF_NO_CLASS = {"attention_rollout", "relax"}


def test_the_command_lines_choices_are_the_registrys():
    assert get_args(SegmenterName) == tuple(registry.SEGMENTERS)
    assert get_args(MethodName) == tuple(registry.SALIENCY)
    assert get_args(DatasetName) == tuple(registry.DATASETS)


def test_every_name_has_a_title():
    titles = [registry.title_of(name) for name in (*registry.SEGMENTERS, *registry.SALIENCY)]
    assert len(set(titles)) == len(titles)
    assert not {*registry.SEGMENTERS, *registry.SALIENCY} & set(titles)
    assert registry.title_of("nobody") == "nobody"


def test_unknown_names_list_near_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'slic'"):
        registry.find_segmenter("slick")
    with pytest.raises(UnknownNameError, match="did you mean 'grad_cam'"):
        registry.find_method("gradcam")
    with pytest.raises(UnknownNameError, match="did you mean 'stl10'"):
        registry.find_dataset("stl-10")


def test_quick_settings_are_settings_of_their_methods():
    """And ask less of the network than the defaults do."""
    from dataclasses import fields

    assert any(kind.quick for kind in registry.SALIENCY.values())
    for kind in registry.SALIENCY.values():
        defaults = {one.name: one.default for one in fields(kind)}
        for setting, value in kind.quick.items():
            if setting.startswith("n_"):
                assert value < defaults[setting]
            else:
                assert value > defaults[setting]  # a tolerance


def test_all_methods_are_those_of_a_class():
    """The others may not serve the network, or cost much: they are asked for by name."""
    every = registry.with_all("method", ["all"])
    assert every == [name for name in registry.SALIENCY if name not in OF_NO_CLASS]
    assert registry.with_all("method", ["relax", "all", "relax"]) == ["relax", *every]
    assert registry.with_all("method", ["lrp", "rise", "lrp"]) == ["lrp", "rise", "lrp"]
    assert {name for name, kind in registry.SALIENCY.items() if not kind.asks_class} == OF_NO_CLASS
