import json
import multiprocessing
from pathlib import Path

import pyarrow as pa
import pytest
from squares import SETTINGS, Squares, compute, hold

from naspix.errors import InputError, NaspixWarning, OutputError
from naspix.runs import continuing
from naspix.runs.continuing import open_run
from naspix.runs.engine import carry_out
from naspix.runs.parts import Failure, Span, parts_in
from naspix.runs.store import read_run

# processes that need not import torch again
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["naspix.runs.engine", "pyarrow.parquet", "pandas"])


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in (folder / "records").iterdir())


def test_a_run_gives_a_row_an_item_and_setting(tmp_path: Path) -> None:
    compute(tmp_path / "run")
    run = read_run(tmp_path / "run")
    table = run.records()
    assert table.column("index").to_pylist() == [i for i in range(20) for _ in "rs" if i != 13]
    assert table.filter(pa.compute.equal(table["setting"], "square"))["value"].to_pylist() == [
        float(i * i) for i in range(20) if i != 13
    ]
    assert run.failures == [Failure(13, "item 13", "bad luck")]
    assert run.seconds == {"thinking": 7.0}
    assert run.machines == [{"processor": "a brain"}]
    assert run.n_items == 20
    assert (run.kind, run.settings) == ("squares", SETTINGS)


def test_chosen_columns_are_read_alone(tmp_path: Path) -> None:
    compute(tmp_path)
    assert read_run(tmp_path).records(["value"]).column_names == ["value"]


def test_the_same_command_computes_only_what_is_missing(tmp_path: Path) -> None:
    compute(tmp_path, worker=Squares())
    expected = read_run(tmp_path).records()
    (tmp_path / "records" / Span(6, 9).file_name).unlink()
    with open_run(tmp_path, kind="squares", settings=SETTINGS) as run:
        assert run.pending(20, 3) == [Span(6, 9)]
        done: list[int] = []
        carry_out(
            run,
            Squares,
            n_items=20,
            batch_size=3,
            engine=lambda make, spans: ((s, make()(s, None).encode()) for s in spans),
            progress=done.append,
        )
    assert done == [17, 3]
    assert read_run(tmp_path).records() == expected


def test_a_run_that_left_nothing_is_begun_anew_with_other_settings(tmp_path: Path) -> None:
    with open_run(tmp_path, kind="cubes", settings={"power": 3}) as run:
        assert run.find("a thing", lambda: 1) == 1
    compute(tmp_path)
    assert read_run(tmp_path).header["found"] == {}
    assert read_run(tmp_path).n_items == 20
    with pytest.raises(InputError, match="holds a run of squares, not of cubes"):
        compute_cubes(tmp_path)
    (tmp_path / "other" / "classes").mkdir(parents=True)  # empty: nothing was found
    compute_cubes(tmp_path / "other")
    (tmp_path / "other" / "classes" / "class-1.npz").touch()
    with pytest.raises(InputError, match="holds a run of cubes"):
        compute(tmp_path / "other")
    (tmp_path / "other" / "classes" / "class-1.npz").unlink()
    compute(tmp_path / "other")


def compute_cubes(folder: Path) -> None:
    with open_run(folder, kind="cubes", settings={"power": 3}):
        pass


def test_small_parts_become_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute(tmp_path / "small", 20, 3)
    monkeypatch.setattr(continuing, "MERGED", 2)
    compute(tmp_path / "merged", 20, 3)
    assert names(tmp_path / "merged") == [
        "000000000-000000006.parquet",
        "000000006-000000012.parquet",
        "000000012-000000018.parquet",
        "000000018-000000020.parquet",
    ]
    small, merged = read_run(tmp_path / "small"), read_run(tmp_path / "merged")
    assert merged.records() == small.records()
    assert merged.failures == small.failures
    assert merged.seconds == small.seconds
    assert merged.machines == small.machines
    compute(tmp_path / "merged", 20, 3, worker=Squares(fails_at=0))  # nothing is left to do


def test_a_kill_between_merging_and_removing_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(tmp_path, 20, 3)
    expected = read_run(tmp_path).records()
    first = (tmp_path / "records" / Span(0, 3).file_name).read_bytes()
    monkeypatch.setattr(continuing, "MERGED", 2)
    (tmp_path / "records" / Span(3, 6).file_name).unlink()
    compute(tmp_path, 20, 3)  # merges the first two
    (tmp_path / "records" / Span(0, 3).file_name).write_bytes(first)
    assert read_run(tmp_path).records() == expected
    compute(tmp_path, 20, 3)
    assert Span(0, 3).file_name not in names(tmp_path)
    assert read_run(tmp_path).records() == expected


@pytest.mark.parametrize("cut", [0.0, 0.5, 0.99])
def test_a_part_cut_in_the_middle_is_set_aside_and_computed_again(
    tmp_path: Path, cut: float
) -> None:
    compute(tmp_path)
    expected = read_run(tmp_path).records()
    file = tmp_path / "records" / Span(6, 9).file_name
    content = file.read_bytes()
    file.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(InputError, match=r"000000006-000000009.parquet is damaged .* anew"):
        read_run(tmp_path).records()
    with pytest.warns(NaspixWarning, match=r"000000006-000000009.parquet .* computed again"):
        compute(tmp_path)
    assert read_run(tmp_path).records() == expected
    assert [file.name for file in (tmp_path / "damaged").iterdir()] == [Span(6, 9).file_name]


def test_a_flipped_bit_is_found_when_it_is_read(tmp_path: Path) -> None:
    compute(tmp_path)
    file = tmp_path / "records" / Span(6, 9).file_name
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(InputError, match="is damaged"):
        read_run(tmp_path).records()


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    compute(tmp_path)
    other = {**SETTINGS, "power": 3, "nested": {"a": 1, "b": [1, 2]}}
    with (
        pytest.raises(InputError) as error,
        open_run(tmp_path, kind="squares", settings=other, growing=["limit"]),
    ):
        pass
    assert str(error.value) == (
        f"{tmp_path} holds a run with other settings: power was 2 and is now 3; nested.b was not "
        "set and is now [1, 2]; give the former settings to continue it, or another --output"
    )
    with (
        pytest.raises(InputError, match="a run of squares, not of cubes"),
        open_run(tmp_path, kind="cubes", settings=SETTINGS),
    ):
        pass


def test_a_limit_may_grow_but_not_shrink(tmp_path: Path) -> None:
    def begin(limit: int | None, n_items: int) -> list[Span]:
        settings = {**SETTINGS, "limit": limit}
        with open_run(tmp_path, kind="squares", settings=settings, growing=["limit"]) as run:
            pending = run.pending(n_items, 3)
            for span in pending:
                run.add(span, Squares()(span, None).encode())
        return pending

    assert begin(4, 4) == [Span(0, 3), Span(3, 4)]
    assert begin(8, 8) == [Span(3, 6), Span(6, 8)]
    assert begin(None, 9) == [Span(6, 9)]
    assert read_run(tmp_path).records(["index"])["index"].to_pylist() == [
        i for i in range(9) for _ in "rs"
    ]
    with pytest.raises(InputError, match="limit was not set and is now 4"):
        begin(4, 4)


def test_what_was_found_at_the_beginning_holds_for_ever(tmp_path: Path) -> None:
    with open_run(tmp_path, kind="squares", settings=SETTINGS) as run:
        assert run.find("n_segments", lambda: (40, 41)) == [40, 41]
    with open_run(tmp_path, kind="squares", settings=SETTINGS) as run:
        assert run.find("n_segments", lambda: 1 / 0) == [40, 41]


def test_two_runs_in_a_folder_are_refused_and_a_dead_ones_lock_is_nobodys(tmp_path: Path) -> None:
    begins, begun = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=hold, args=(tmp_path, begun))
    process.start()
    assert begins.poll(60)
    with pytest.raises(OutputError, match=rf"in use by process {process.pid}, since .* --output"):
        compute(tmp_path)
    process.kill()
    process.join()
    compute(tmp_path)
    assert read_run(tmp_path).n_items == 20


def test_two_runs_in_one_process_are_refused_too(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, kind="squares", settings=SETTINGS),
        pytest.raises(OutputError, match="in use by process"),
    ):
        compute(tmp_path)


def test_a_folder_of_another_schema_is_refused(tmp_path: Path) -> None:
    compute(tmp_path)
    header = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**header, "schema": 9, "naspix": "7.0"}))
    for attempt in (read_run, compute):
        with pytest.raises(InputError, match=r"written by naspix 7.0 in schema 9, which this"):
            attempt(tmp_path)
    assert len(names(tmp_path)) == 7, "nothing computed is lost"


def test_other_versions_are_said(tmp_path: Path) -> None:
    compute(tmp_path)
    header = json.loads((tmp_path / "run.json").read_text())
    header["versions"]["torch"] = "1.0"
    (tmp_path / "run.json").write_text(json.dumps(header))
    with pytest.warns(NaspixWarning, match=r"begun with other versions \(torch 1.0 then"):
        compute(tmp_path)


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no run: it has no run.json"):
        read_run(tmp_path)
    with open_run(tmp_path, kind="squares", settings=SETTINGS):
        pass
    with pytest.raises(InputError, match="no records yet"):
        read_run(tmp_path).records()
    (tmp_path / "run.json").write_text('{"schema": 1')
    with pytest.raises(InputError, match=r"run.json is damaged"):
        compute(tmp_path)
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match=r"has records/ but no run.json"):
        compute(tmp_path)


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(OutputError, match="is a file"):
        compute(tmp_path / "run")


def test_a_listing_names_each_item_once(tmp_path: Path) -> None:
    for span in (Span(0, 8), Span(8, 16), Span(0, 16), Span(16, 24)):
        (tmp_path / span.file_name).touch()
    (tmp_path / "notes.txt").touch()
    assert list(parts_in(tmp_path)) == [Span(0, 16), Span(16, 24)]
    assert parts_in(tmp_path / "absent") == {}
