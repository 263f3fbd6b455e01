from __future__ import annotations

from pathlib import Path

import pytest

from prefgen.errors import RunDirectoryError, UsageError
from trainers.dpo import DPOConfig
from trainers.fingerprint import hash_files
from trainers.folder import Beginning, begin, check_free, check_place, held


def config(tmp_path: Path, **options: object) -> DPOConfig:
    values = {
        "model": str(tmp_path / "model"),
        "data": tmp_path / "d.jsonl",
        "out": tmp_path / "out",
        **options,
    }
    return DPOConfig.model_validate(values)


def beginning(config: DPOConfig, data: str = "abc") -> Beginning:
    return Beginning(stage="dpo", config=config.model_dump(mode="json"), inputs={"train": data})


def started(tmp_path: Path, **options: object) -> DPOConfig:
    first = config(tmp_path, **options)
    begin(first, beginning(first))
    return first


@pytest.mark.parametrize("out", ["model", "model/dpo", "model/../model"])
def test_the_starting_model_is_no_place_to_write(tmp_path: Path, out: str) -> None:
    with pytest.raises(UsageError, match="starting model's folder"):
        check_place(config(tmp_path, out=tmp_path / out))


def test_nothing_that_is_read_may_lie_in_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"d.jsonl lies in --out"):
        check_place(config(tmp_path, data=tmp_path / "out" / "d.jsonl"))
    with pytest.raises(UsageError, match="model lies in --out"):
        check_place(config(tmp_path, model=str(tmp_path / "out" / "model")))


def test_a_new_or_empty_folder_is_free(tmp_path: Path) -> None:
    check_free(config(tmp_path), beginning(config(tmp_path)))
    (tmp_path / "out").mkdir()
    check_free(config(tmp_path), beginning(config(tmp_path)))


def test_a_used_folder_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    first = started(tmp_path)
    with pytest.raises(RunDirectoryError, match=r"--resume.*--overwrite.*another --out"):
        check_free(first, beginning(first))


def test_one_training_at_a_time_writes_into_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with held(out):
        with pytest.raises(RunDirectoryError, match="another process"), held(out):
            pass
        assert list(out.iterdir()) == []
    with held(out):
        pass


def test_a_used_folder_is_found_behind_one_that_is_not_there(tmp_path: Path) -> None:
    first = started(tmp_path)
    again = config(tmp_path, out=tmp_path / "nowhere" / ".." / "out")
    with pytest.raises(RunDirectoryError, match="holds a training run already"):
        check_free(again, beginning(first))


def test_overwriting_deletes_training_runs_only(tmp_path: Path) -> None:
    again = config(tmp_path, overwrite=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="no training run"):
        check_free(again, beginning(again))
    (tmp_path / "out" / "stage.json").write_text("{}")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "thesis.tex").write_text("years of work")
    (tmp_path / "out" / "link").symlink_to(tmp_path / "kept")
    check_free(again, beginning(again))
    begin(again, beginning(again))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["stage.json"]
    assert (tmp_path / "kept" / "thesis.tex").exists()


def test_resuming_names_what_changed(tmp_path: Path) -> None:
    started(tmp_path)
    other = config(tmp_path, resume=True, beta=0.5, report_to=("tensorboard",))
    with pytest.raises(RunDirectoryError, match=r"begun differently.*beta was 0.1, is 0.5;"):
        check_free(other, beginning(other))
    same = config(tmp_path, resume=True, report_to=("tensorboard",))
    check_free(same, beginning(same))
    with pytest.raises(RunDirectoryError, match="train was abc, is xyz"):
        check_free(same, beginning(same, data="xyz"))


def test_a_checkpoint_cut_short_is_not_resumed_from(tmp_path: Path) -> None:
    started(tmp_path)
    checkpoints = tmp_path / "out" / "checkpoints"
    for step, state in ((2, "{}"), (10, "{}"), (12, '{"global_st'), (14, None)):
        (checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        if state:
            (checkpoints / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    again = config(tmp_path, resume=True)
    assert begin(again, beginning(again)) == checkpoints / "checkpoint-10"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-10", "checkpoint-2"]


def test_a_model_is_its_files_and_not_its_folders(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "weights").write_text("1")
    before = hash_files(folder)
    (folder / "checkpoints" / "more").write_text("2")
    assert hash_files(folder) == before
    (folder / "weights").write_text("3")
    assert hash_files(folder) != before
    assert hash_files(tmp_path / "org" / "name") is None
