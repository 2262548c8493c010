"""A backend with the default network, and a visitor who asks it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import naspix
from naspix.app import Backend, Networks

sys.path.insert(0, str(Path(__file__).parent))  # for the modules beside the tests

from visitors import Ask, visitor_of


@pytest.fixture(scope="session")
def model() -> naspix.Classifier:
    return naspix.load_model("efficientnet_lite0")


@pytest.fixture(scope="module")
def backend(model: naspix.Classifier) -> Iterator[Backend]:
    backend = Backend(Networks({"efficientnet_lite0": lambda: model}))
    yield backend
    backend.close()


@pytest.fixture
def ask(backend: Backend) -> Ask:
    return visitor_of(backend)


@pytest.fixture
def cat(ask: Ask) -> dict[str, Any]:
    """The state after the visitor chose the photo of a cat."""
    return ask("sample", name="chelsea")
