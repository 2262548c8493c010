"""``naspix bench`` as a user calls it, on next to nothing."""

import json

import pytest

from naspix.cli import main
from naspix.cli.bench import SECTION_TITLES
from naspix.paper.bench import SECTIONS


def test_the_sections_of_the_command_are_those_there_are():
    assert list(SECTION_TITLES) == list(SECTIONS)


def test_it_prints_a_table_with_its_verdict(capsys):
    assert main(["bench", "--quick", "--sizes", "32", "--threads", "1", "--sections", "ward"]) == 0
    printed = capsys.readouterr().out
    assert "takes 13.9 ms an image" in printed
    assert "NAS by Ward, exact" in printed
    assert "goals met" in printed


def test_it_prints_json_for_machines(capsys):
    asked = ["bench", "--quick", "--sizes", "32", "--threads", "1", "--sections", "cuda", "--json"]
    assert main(asked) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"machine", "paper", "quick", "records"}
    assert result["records"][0]["section"] == "cuda"


def test_a_size_too_small_is_one_sentence(capsys):
    assert main(["bench", "--sizes", "8"]) != 0
    said = capsys.readouterr().err
    assert "too small" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("option", ["--photos", "--json", "--sections"])
def test_help_names_every_option(option, capsys):
    main(["bench", "--help"])
    assert option in capsys.readouterr().out


def test_a_network_of_ones_own_is_measured(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch, torchvision, naspix\n"
        "def make():\n"
        "    network = torchvision.models.resnet18(num_classes=5)\n"
        "    return naspix.wrap_model(network, mean=0.5, std=0.25, input_size=32)\n"
    )
    asked = ["bench", "--quick", "--sizes", "32", "--threads", "1", "--sections", "trained"]
    assert main([*asked, "--json", "--model", f"{file}:make"]) == 0
    records = json.loads(capsys.readouterr().out)["records"]
    assert {record["network"] for record in records} == {f"{file}:make"}
    assert all(record["goal"] is None for record in records)
