"""The public names, and that importing them costs next to nothing."""

import subprocess
import sys

import naspix


def test_names():
    assert set(naspix.__all__) == {
        "__version__",
        "ClassClustering",
        "Classifier",
        "Contrast",
        "Explanation",
        "Felzenszwalb",
        "Grid",
        "NAS",
        "NaspixError",
        "NaspixWarning",
        "NormalizedCut",
        "Quickshift",
        "SLIC",
        "Segmentation",
        "Watershed",
        "check",
        "clustering",
        "concepts",
        "consensus",
        "datasets",
        "evaluate",
        "explain",
        "explore",
        "finetune",
        "interop",
        "load_model",
        "metrics",
        "models",
        "plots",
        "saliency",
        "segmentation",
        "superpixelify",
        "targets",
        "wrap_clip",
        "wrap_huggingface",
        "wrap_model",
    }
    for name in naspix.__all__:
        assert getattr(naspix, name) is not None
    assert sorted(naspix.__all__) == dir(naspix)


def test_functions_are_not_hidden_by_modules_of_their_name():
    import naspix.explain
    import naspix.superpixelify

    assert callable(naspix.explain)
    assert callable(naspix.superpixelify)


def test_importing_is_lazy():
    code = (
        "import sys, naspix, naspix.cli\n"
        "heavy = {'torch', 'torchvision', 'timm', 'captum', 'numpy', 'matplotlib', 'skimage'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
