"""What a large evaluation would cost: the arithmetic, and the rates it takes from a run."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_data import voc
from squares import compute

from naspix.errors import InputError
from naspix.evaluation.running import evaluate_run as evaluate
from naspix.evaluation.settings import EvaluationSettings
from naspix.runs import STORE, Run, read_run

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "scaling.py"
_SPEC = importlib.util.spec_from_file_location("scaling_script", SCRIPT)
assert _SPEC is not None
assert _SPEC.loader is not None
script = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = script  # where its dataclasses look for their module
_SPEC.loader.exec_module(script)
Machines, Rates, cost, measured = script.Machines, script.Rates, script.cost, script.measured

RATES = Rates(
    host={"reading pictures": 0.5, "measure": 1.5},
    device={"forward": 3.0, "method rise": 27.0},
    writing=0.25,
    bytes=1000.0,
)


def test_one_worker_takes_the_sum_of_the_steps() -> None:
    found = cost(RATES, 3600, Machines())
    assert found.hours == pytest.approx(0.5 + 1.5 + 3 + 27)
    assert (found.bound, found.step, found.bytes) == ("workers", "method rise", 3_600_000)


def test_what_is_slowest_decides() -> None:
    """A picture: 2 s on the host, 30 s of the network, which a GPU does in 1 s; 0.25 s written."""
    few, more, many = (
        Machines(workers=w, gpus=g, speedup=30) for w, g in ((2, 2), (8, 1), (64, 8))
    )
    assert cost(RATES, 3600, few).hours == pytest.approx((2 + 1) / 2)
    assert cost(RATES, 3600, few).bound == "workers"
    assert cost(RATES, 3600, few).step == "measure"
    assert cost(RATES, 3600, more).hours == pytest.approx(1)
    assert (cost(RATES, 3600, more).bound, cost(RATES, 3600, more).step) == ("GPUs", "method rise")
    assert cost(RATES, 3600, many).hours == pytest.approx(0.25), "one process writes"
    assert cost(RATES, 3600, many).bound == "writing"


@given(st.integers(1, 64), st.integers(0, 64), st.floats(1, 1000), st.integers(1, 10**7))
def test_more_machines_are_never_slower(workers: int, gpus: int, speedup: float, n: int) -> None:
    base = cost(RATES, n, Machines(workers=workers, gpus=gpus, speedup=speedup))
    twice = cost(RATES, n, Machines(workers=2 * workers, gpus=2 * gpus, speedup=speedup))
    assert base.hours / 2 <= twice.hours * (1 + 1e-9)
    assert twice.hours <= base.hours
    assert base.hours >= n * RATES.writing / 3600
    assert cost(RATES, 2 * n, Machines(workers=workers)).hours == pytest.approx(
        2 * cost(RATES, n, Machines(workers=workers)).hours
    )


def test_machines_that_cannot_be_are_refused() -> None:
    for wrong in ({"workers": 0}, {"gpus": -1}, {"speedup": 0.0}):
        with pytest.raises(InputError, match="no computing"):
            Machines(**wrong)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("scaling")
    voc(folder / "voc")
    asked = EvaluationSettings(
        task="wsol",
        dataset="voc",
        root=str(folder / "voc"),
        methods=("grad_cam_plus_plus", "vanilla_gradient"),
        segmenters=("none", "nas", "grid"),
        batch_size=2,
        match=False,
    )
    return evaluate(asked, folder / "run")


def test_rates_are_those_of_the_records(run: Run) -> None:
    found = measured(run, host={"vanilla_gradient": 0.0001})
    seconds = {step: each / 4 for step, each in run.seconds.items()}
    waiting = seconds.pop("waiting for pictures")
    assert found.all.seconds == pytest.approx(sum(seconds.values()))
    assert seconds["reading pictures"] > 0
    assert waiting >= 0
    assert set(found.all.host) == {
        "reading pictures", "segmenter grid", "measure", "vanilla_gradient, on the host"
    }  # fmt: skip
    assert found.all.host["vanilla_gradient, on the host"] == 0.0001
    assert set(found.all.device) == {
        "forward", "segmenter nas", "method grad_cam_plus_plus", "method vanilla_gradient"
    }  # fmt: skip
    assert (found.network, found.device, found.n_pictures) == ("efficientnet_lite0", "cpu", 4)
    assert found.n_settings == 6


def test_methods_share_what_is_measured_and_add_up_to_the_whole(run: Run) -> None:
    found = measured(run)
    each = found.methods
    assert set(each) == {"grad_cam_plus_plus", "vanilla_gradient"}
    assert sum(rates.host["measure"] for rates in each.values()) == pytest.approx(
        found.all.host["measure"]
    )
    for method, rates in each.items():
        assert rates.device[f"method {method}"] == found.all.device[f"method {method}"]
        assert len([step for step in rates.device if step.startswith("method")]) == 1
    on_disk = (run.folder / STORE).stat().st_size
    assert 0 < found.all.bytes < on_disk / 4
    assert (
        max(r.bytes for r in each.values())
        < found.all.bytes
        < sum(r.bytes for r in each.values()) + 100
    )
    assert found.all.writing > 0


def test_the_script_prints_a_row_a_method_and_says_that_no_gpu_was_measured(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(*options: str) -> str:
        monkeypatch.setattr("sys.argv", ["scaling.py", str(run.folder), *options])
        assert script.main() == 0
        return capsys.readouterr().out

    text = printed()
    assert "| Grad-CAM++ |" in text
    assert "| all together |" in text
    assert "No GPU rate was measured" in text
    records = json.loads(printed("--json", "--gpu-speedup", "50", "--images", "1000"))
    assert [record["table"] for record in records] == ["methods"] * 3 + ["tables 3 and 4"]
    whole = records[2]
    one = whole["costs"][1]
    assert one["machines"] == {"workers": 8, "gpus": 1, "speedup": 50.0}
    rates = measured(run).all
    host, network = sum(rates.host.values()), sum(rates.device.values()) / 50
    assert one["hours"] == pytest.approx(max((host + network) / 8, network) / 3.6, rel=0.01)
    assert records[3]["n_images"] == 6794


def test_what_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    compute(tmp_path / "run")
    with pytest.raises(InputError, match="run of squares, which is no evaluation"):
        measured(read_run(tmp_path / "run"))
