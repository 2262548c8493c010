"""A library that is absent is named, with what to install; one that is broken is not hidden."""

import sys

import numpy as np
import pytest
import torch

import naspix
from naspix.errors import MissingExtraError
from naspix.interop._libraries import library
from naspix.interop.lime import LimeExplainer
from naspix.interop.pair_saliency import AuthorsXRAI
from naspix.interop.shap import OwenValues


@pytest.mark.parametrize(
    ("make", "module", "package"),
    [
        (LimeExplainer, "lime", "lime"),
        (OwenValues, "shap", "shap"),
        (AuthorsXRAI, "saliency", "saliency"),
    ],
)
def test_absent_libraries_are_named_when_called(
    network, images, monkeypatch, make, module, package
):
    class Absent:
        def find_spec(self, name: str, *_: object) -> None:
            if name.split(".")[0] == module:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    method = make(network)  # making one asks for nothing
    with pytest.raises(MissingExtraError, match=f"needs the package {package}; install it with"):
        method(images, 0)


def test_a_library_that_misses_something_itself_says_so(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import what_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_it_needs") as caught:
        library("half_there", "half-there", "Something")
    assert not isinstance(caught.value, MissingExtraError)


def test_importing_the_bridges_imports_no_library():
    import subprocess

    code = (
        "import sys, naspix.interop\n"
        "print(sorted({'lime', 'shap', 'quantus', 'saliency', 'transformers', 'torchcam',\n"
        "              'pytorch_grad_cam'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_bridged_methods_stand_beside_ours(network, images):
    """What comes out of another library goes into one table with our own methods."""
    from captum.attr import Saliency

    from naspix.interop.captum import CaptumMethod

    theirs = CaptumMethod(Saliency(network).attribute, network, reduce="max_abs")
    explanation = naspix.explain(
        network, images, method=["vanilla_gradient", theirs], segmenter=naspix.Grid(n_segments=4)
    )
    ours, other = explanation.raw.values()
    torch.testing.assert_close(ours, other)
    assert np.isfinite(explanation.pooled["CaptumMethod", "grid"].numpy()).all()
