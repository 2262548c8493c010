import json
import multiprocessing
import random
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal
from squares import (
    SETTINGS,
    Squares,
    compute,
    compute_with_little_room,
    die_in_the_middle_of_writing,
    hold,
)

from naspix.errors import InputError, NaspixWarning, OutputError
from naspix.runs import STORE, Failure, Part, Span, carry_out, open_run, read_run

# processes that need not import torch again
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["naspix.runs", "pandas"])


def test_a_run_gives_a_row_an_item_and_setting(tmp_path: Path) -> None:
    compute(tmp_path / "run")
    run = read_run(tmp_path / "run")
    table = run.records()
    assert table["index"].tolist() == [i for i in range(20) for _ in "rs" if i != 13]
    assert table[table["setting"] == "square"]["value"].tolist() == [
        float(i * i) for i in range(20) if i != 13
    ]
    lists = table[table["setting"] == "root"]["list"].tolist()
    assert all(each.dtype == np.float32 for each in lists)
    assert [each.tolist() for each in lists] == [[i, 1.0] for i in range(20) if i != 13]
    assert table[table["setting"] == "square"]["list"].isna().all()
    assert run.failures == [Failure(13, "item 13", "bad luck")]
    assert run.seconds == {"thinking": 7.0}
    assert run.machines == [{"processor": "a brain"}]
    assert run.n_items == 20
    assert (run.kind, run.settings) == ("squares", SETTINGS)


def test_chosen_columns_are_read_alone(tmp_path: Path) -> None:
    compute(tmp_path)
    assert read_run(tmp_path).records(["value"]).columns.tolist() == ["value"]


def test_what_is_missing_is_none_beside_texts_and_whole_numbers(tmp_path: Path) -> None:
    rows = [{"index": 0, "word": "one", "n": 1}, {"index": 1, "word": None, "n": None}]
    with open_run(tmp_path, kind="words", settings={}) as opened:
        opened.pending(range(2), 2)
        opened.add(Part(Span(0, 2), rows, {"index": "int", "word": "text", "n": "int"}))
    assert read_run(tmp_path).records().to_dict("records") == rows


def test_an_item_may_have_one_part_at_a_time(tmp_path: Path) -> None:
    """Another one takes its place, items are read in the order asked, others stay unseen."""
    columns = {"index": "int", "value": "text"}

    def compute_part(items: list[int], part: str) -> list[Span]:
        with open_run(tmp_path, kind="one", settings={}) as run:
            run.find("parts", lambda: [part])
            run.show(items, {part: []})
            pending = run.pending(items, 4, [part])
            for span in pending:
                rows = [{"index": i, "value": f"{part}{i}"} for i in range(*span) if i != 2]
                failed = [Failure(i, f"item {i}", "luck") for i in range(*span) if i == 2]
                run.add(Part(span, rows, columns, tuple(failed), {"step": 1.0}))  # type: ignore[arg-type]
            return pending

    def shown() -> list[str]:
        return [row["value"] for row in read_run(tmp_path).rows(["value"])]

    assert compute_part([0, 1, 2], "a") == [Span(0, 3, ("a",))]
    assert shown() == ["a0", "a1"]
    assert read_run(tmp_path).failures == [Failure(2, "item 2", "luck")]
    assert read_run(tmp_path).n_items == 3
    assert compute_part([5, 1, 0], "a") == [Span(5, 6, ("a",))]
    assert shown() == ["a5", "a1", "a0"]
    assert not read_run(tmp_path).failures
    assert compute_part([1, 4, 5], "b") == [Span(1, 2, ("b",)), Span(4, 6, ("b",))]
    assert shown() == ["b1", "b4", "b5"]
    run = read_run(tmp_path)
    assert run.is_finished
    assert [run.rows_of(item, ["value"]) for item in (0, 1, 3)] == [
        [{"value": "a0"}], [{"value": "b1"}], [],
    ]  # fmt: skip
    assert run.seconds == {"step": 3.0}
    with open_run(tmp_path, kind="one", settings={}) as opened:
        opened.show([0, 1], {"a": []})
        assert opened.pending([0, 1], 4, ["a"]) == [Span(1, 2, ("a",))]
    assert not read_run(tmp_path).is_finished


def test_records_are_exported(tmp_path: Path) -> None:
    import pandas as pd

    compute(tmp_path)
    read_run(tmp_path).export(tmp_path / "records.parquet")
    exported = pd.read_parquet(tmp_path / "records.parquet")
    assert_frame_equal(exported, read_run(tmp_path).records(), check_dtype=False)


def test_the_same_command_computes_only_what_is_missing(tmp_path: Path) -> None:
    compute(tmp_path / "whole")
    compute(tmp_path / "run", n_items=6)
    _change(tmp_path / "run", "DELETE FROM batches WHERE start = 3")
    _change(tmp_path / "run", "DELETE FROM records WHERE _batch = 3")
    with open_run(tmp_path / "run", kind="squares", settings=SETTINGS) as run:
        assert run.pending(range(20), 3) == [Span(i, min(i + 3, 20)) for i in range(3, 20, 3)]
        done: list[int] = []
        carry_out(
            run,
            Squares,
            n_items=20,
            batch_size=3,
            engine=lambda make, spans: (make()(span, None) for span in spans),
            progress=done.append,
        )
    assert done == [3, 3, 3, 3, 3, 3, 2]
    whole, pieces = read_run(tmp_path / "whole"), read_run(tmp_path / "run")
    assert_frame_equal(pieces.records(), whole.records(), check_exact=True)


def test_what_was_computed_is_never_computed_again(tmp_path: Path) -> None:
    """Not even in batches of another size."""
    compute(tmp_path, n_items=7, batch_size=3)
    with open_run(tmp_path, kind="squares", settings=SETTINGS) as run:
        assert run.pending(range(12), 5) == [Span(7, 10), Span(10, 12)]
    compute(tmp_path, n_items=12, batch_size=5, worker=Squares(fails_at=6))
    assert read_run(tmp_path).records()["index"].tolist() == [i for i in range(12) for _ in "rs"]


def test_parts_that_are_asked_later_go_into_their_batches(tmp_path: Path) -> None:
    columns = {"index": "int", "setting": "text", "value": "float"}

    def compute_parts(n_items: int, parts: list[str], failing: int = -1) -> list[Span]:
        with open_run(tmp_path, kind="parts", settings={}) as run:
            run.find("parts", lambda: parts)
            run.show(range(n_items), {part: [part] for part in parts}, by=["setting"])
            pending = run.pending(range(n_items), 2, parts)
            for span in pending:
                rows = [
                    {"index": index, "setting": part, "value": index + len(part)}
                    for index in range(*span)
                    for part in span.parts
                    if index != failing
                ]
                failed = [Failure(i, f"item {i}", "luck") for i in range(*span) if i == failing]
                run.add(Part(span, rows, columns, tuple(failed), {"step": 1.0}, {"name": parts[0]}))  # type: ignore[arg-type]
            return pending

    def shown() -> list[tuple[int, str]]:
        frame = read_run(tmp_path).records(["index", "setting"])
        return list(zip(frame["index"].tolist(), frame["setting"].tolist(), strict=True))

    assert compute_parts(3, ["a"]) == [Span(0, 2, ("a",)), Span(2, 3, ("a",))]
    assert compute_parts(4, ["bb", "a"]) == [
        Span(0, 2, ("bb",)), Span(2, 3, ("bb",)), Span(3, 4, ("bb", "a")),
    ]  # fmt: skip
    assert shown() == [(i, part) for i in range(4) for part in ("bb", "a")]
    assert read_run(tmp_path).seconds == {"step": 5.0}
    assert {machine["name"] for machine in read_run(tmp_path).machines} == {"a", "bb"}
    assert compute_parts(4, ["a", "bb"]) == []
    assert compute_parts(2, ["a"]) == []
    assert shown() == [(0, "a"), (1, "a")]
    assert read_run(tmp_path).n_items == 2
    assert len(compute_parts(4, ["a", "ccc"], failing=1)) == 3
    assert shown() == [(i, part) for i in (0, 2, 3) for part in ("a", "ccc")], "1 failed in one"
    assert [failure.index for failure in read_run(tmp_path).failures] == [1]
    assert compute_parts(4, ["a"]) == []
    assert len(shown()) == 4
    assert not read_run(tmp_path).failures
    _change(tmp_path, "UPDATE records SET value = 9 WHERE _batch = 2")
    with pytest.warns(NaspixWarning, match="2 of its batches are kept"):
        assert compute_parts(4, ["a", "bb"]) == [Span(2, 3, ("a", "bb"))]
    assert shown() == [(i, part) for i in range(4) for part in ("a", "bb")]


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


def test_a_damaged_batch_is_noticed_and_computed_again_the_others_are_kept(tmp_path: Path) -> None:
    compute(tmp_path)
    expected = read_run(tmp_path).records()
    _change(tmp_path, "UPDATE records SET value = 7.5 WHERE \"index\" = 7 AND setting = 'root'")
    with pytest.raises(InputError, match=r"run.sqlite is damaged; run the same command again"):
        read_run(tmp_path).records()
    with pytest.warns(NaspixWarning, match="damaged-1.sqlite now, 6 of its batches are kept"):
        compute(tmp_path, worker=Squares(fails_at=3))  # which is in a batch that is kept
    assert_frame_equal(read_run(tmp_path).records(), expected, check_exact=True)
    assert (tmp_path / "damaged-1.sqlite").exists()


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.6, 0.99])
def test_a_file_cut_in_the_middle_is_no_dead_end(tmp_path: Path, cut: float) -> None:
    compute(tmp_path)
    expected = read_run(tmp_path).records()
    content = (tmp_path / STORE).read_bytes()
    (tmp_path / STORE).write_bytes(content[: int(cut * len(content))])
    with pytest.raises(InputError, match=r"is damaged|has no run.sqlite"):
        read_run(tmp_path).records()
    if cut:
        with pytest.warns(NaspixWarning, match="was damaged; it is damaged-1.sqlite now"):
            compute(tmp_path)
    else:
        compute(tmp_path)
    assert_frame_equal(read_run(tmp_path).records(), expected, check_exact=True)


@pytest.mark.filterwarnings("ignore::naspix.errors.NaspixWarning")
def test_two_thousand_flipped_bits_change_no_value_or_are_noticed(tmp_path: Path) -> None:
    compute(tmp_path / "run")
    run = read_run(tmp_path / "run")
    expected, header = run.records(), run.header
    content = (tmp_path / "run" / STORE).read_bytes()
    draw = random.Random(0)
    noticed = 0
    for number in range(2000):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        folder = tmp_path / f"flip-{number}"
        folder.mkdir()
        (folder / STORE).write_bytes(flipped)
        try:
            run = read_run(folder)
            records, failures = run.records(), run.failures
        except (InputError, OutputError):
            noticed += 1
            if number % 40 == 0:  # and it is no dead end
                compute(folder)
                assert_frame_equal(read_run(folder).records(), expected, check_exact=True)
        else:
            assert_frame_equal(records, expected, check_exact=True)
            assert failures == [Failure(13, "item 13", "bad luck")]
            assert run.header == header
        shutil.rmtree(folder)
    assert noticed > 200


def test_what_a_killed_writer_began_is_undone_and_is_no_damage(tmp_path: Path) -> None:
    compute(tmp_path, 30)
    before = read_run(tmp_path).records()
    process = multiprocessing.get_context("spawn").Process(
        target=die_in_the_middle_of_writing, args=(tmp_path,)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / f"{STORE}-journal").stat().st_size, "it had begun to write"
    assert_frame_equal(read_run(tmp_path).records(), before, check_exact=True)
    compute(tmp_path, 40)  # a warning would be an error
    assert not list(tmp_path.glob("damaged-*"))
    assert_frame_equal(read_run(tmp_path).records().head(len(before)), before, check_exact=True)


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit of file sizes")
def test_a_full_disk_is_a_sentence_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    compute(tmp_path / "whole", n_items=200)
    process = FORKS.Process(target=compute_with_little_room, args=(tmp_path / "run",))
    process.start()
    process.join()
    assert process.exitcode == 3, "an OutputError"
    compute(tmp_path / "run", n_items=200)
    whole, pieces = read_run(tmp_path / "whole"), read_run(tmp_path / "run")
    assert_frame_equal(pieces.records(), whole.records(), check_exact=True)


def test_other_photos_are_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "photos", {"n": 3, "stamps_sha256": "a" * 16})
    compute(tmp_path)
    other = {**SETTINGS, "photos": {"n": 3, "stamps_sha256": "b" * 16}}
    with (
        pytest.raises(InputError, match="with other settings: other photos; give the"),
        open_run(tmp_path, kind="squares", settings=other, growing=["limit"]),
    ):
        pass


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
            pending = run.pending(range(n_items), 3)
            for span in pending:
                run.add(Squares()(span, None))
        return pending

    assert begin(4, 4) == [Span(0, 3), Span(3, 4)]
    assert begin(8, 8) == [Span(4, 6), Span(6, 8)]
    assert begin(None, 9) == [Span(8, 9)]
    assert read_run(tmp_path).records(["index"])["index"].tolist() == [
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
    said = rf"in use by process {process.pid} \(since \d+ \w+ \d{{4}}, \d\d:\d\d UTC\); .* --output"
    with pytest.raises(OutputError, match=said):
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


def test_a_run_is_read_while_it_is_written(tmp_path: Path) -> None:
    with open_run(tmp_path, kind="squares", settings=SETTINGS) as run:
        run.add(Squares()(Span(0, 3), None))
        assert read_run(tmp_path).records()["index"].tolist() == [0, 0, 1, 1, 2, 2]
        run.add(Squares()(Span(3, 5), None))
        assert read_run(tmp_path).n_items == 5


def test_a_folder_of_another_schema_is_refused(tmp_path: Path) -> None:
    compute(tmp_path)
    _header(tmp_path, schema=9, naspix="7.0")
    for attempt in (read_run, compute):
        with pytest.raises(InputError, match=r"written by naspix 7.0 in schema 9, which this"):
            attempt(tmp_path)
    _header(tmp_path, schema=2)
    assert read_run(tmp_path).n_items == 20, "nothing computed is lost"


def test_a_folder_of_the_former_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "run.json").write_text('{"schema": 1}')
    for attempt in (read_run, compute):
        with pytest.raises(InputError, match=r"a run of naspix 0.1, .* use naspix 0.1 for it"):
            attempt(tmp_path)


def test_other_versions_are_said(tmp_path: Path) -> None:
    compute(tmp_path)
    _header(tmp_path, versions={**read_run(tmp_path).header["versions"], "torch": "1.0"})
    with pytest.warns(NaspixWarning, match=r"begun with other versions \(torch 1.0 then"):
        compute(tmp_path)


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no run: it has no run.sqlite"):
        read_run(tmp_path)
    with open_run(tmp_path, kind="squares", settings=SETTINGS):
        pass
    with pytest.raises(InputError, match="no records yet"):
        read_run(tmp_path).records()


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(OutputError, match="is a file"):
        compute(tmp_path / "run")


def _change(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / STORE)) as connection, connection:
        connection.execute(statement, values)


def _header(folder: Path, **values: object) -> None:
    from naspix.runs import file

    with closing(sqlite3.connect(folder / STORE)) as connection, connection:
        for name, value in values.items():
            file.put(connection, name, json.loads(json.dumps(value)))
