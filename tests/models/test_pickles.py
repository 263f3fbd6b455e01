"""Weights of a user's are data: a pickle among them is not opened, and code that comes along is not run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import make_causal_lm, make_reward_model, save_adapter

from prefgen.errors import ModelUnavailableError
from prefgen.models.local import check_safetensors
from prefgen.models.transformers import open_transformers
from prefgen.models.transformers_reward import open_transformers_reward
from prefgen.models.vllm import open_vllm


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str, int], None], tuple[str, int]]:
        return os.mkdir, (str(self.marker), 0o700)


def plant(path: Path, marker: Path, *, whole: bool = True) -> None:
    """`whole`: as `torch.save` writes it, else a bare pickle."""
    import torch

    if whole:
        torch.save(Bomb(marker), path)
    else:
        path.write_bytes(pickle.dumps(Bomb(marker)))


def test_the_bomb_goes_off_where_pickles_are_loaded(tmp_path: Path) -> None:
    plant(tmp_path / "x", tmp_path / "ran", whole=False)
    pickle.loads((tmp_path / "x").read_bytes())
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
async def test_pickled_weights_are_refused(tmp_path: Path, name: str, whole: bool) -> None:
    folder, marker = make_causal_lm(tmp_path / "m"), tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    plant(folder / name, marker, whole=whole)
    with pytest.raises(ModelUnavailableError, match=r"are pickled .* expected .safetensors(?s:.*)convert"):
        await open_transformers(str(folder), "transformers/x")
    assert not marker.exists()


async def test_vllm_is_not_started_on_pickled_weights(tmp_path: Path) -> None:
    folder, marker = make_causal_lm(tmp_path / "m"), tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    plant(folder / "pytorch_model.bin", marker)
    with pytest.raises(ModelUnavailableError, match="are pickled"):
        await open_vllm(str(folder), "vllm/x")
    assert not marker.exists()


async def test_pickled_weights_run_nothing_even_when_they_are_asked_for(tmp_path: Path) -> None:
    folder, marker = make_causal_lm(tmp_path / "m"), tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    plant(folder / "pytorch_model.bin", marker)
    with pytest.raises(Exception, match=r"(?i)weights.only|unsupported|cannot load"):
        await open_transformers(str(folder), "transformers/x", {"use_safetensors": False})
    assert not marker.exists()


async def test_honest_pickled_weights_are_taken_when_they_are_asked_for(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = make_causal_lm(tmp_path / "m")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    model = await open_transformers(str(folder), "transformers/x", {"use_safetensors": False})
    await model.aclose()


async def test_a_pickled_adapter_and_a_pickled_base_are_refused(tmp_path: Path) -> None:
    base, adapter, marker = make_causal_lm(tmp_path / "m"), tmp_path / "a", tmp_path / "ran"
    save_adapter(base, adapter)
    (adapter / "adapter_model.safetensors").rename(tmp_path / "kept")
    plant(adapter / "adapter_model.bin", marker)
    with pytest.raises(ModelUnavailableError, match=r"adapter_model\.bin"):
        await open_transformers(str(adapter), "transformers/x")
    (adapter / "adapter_model.bin").unlink()
    shutil.move(tmp_path / "kept", adapter / "adapter_model.safetensors")
    (base / "model.safetensors").unlink()
    plant(base / "pytorch_model.bin", marker)
    with pytest.raises(ModelUnavailableError, match="cannot load"):
        await open_transformers(str(adapter), "transformers/x")
    assert not marker.exists()


async def test_other_pickles_beside_safe_weights_are_left_alone(tmp_path: Path) -> None:
    folder, marker = make_reward_model(tmp_path / "m"), tmp_path / "ran"
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "rng_state.pth", "scheduler.pt"):
        plant(folder / name, marker)
    model = await open_transformers_reward(str(folder), "transformers/x")
    await model.aclose()
    assert not marker.exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
async def test_code_that_comes_with_a_model_is_not_run(
    tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, marker = make_causal_lm(tmp_path / "m"), tmp_path / "ran"
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(marker)!r})\nclass Evil: pass\n")
    names = {
        "AutoConfig": "evil.Evil",
        "AutoModelForCausalLM": "evil.Evil",
        "AutoTokenizer": ["evil.Evil"] * 2,
    }
    values = json.loads((folder / file).read_text()) | {"auto_map": names}
    if file == "config.json":
        values["model_type"] = "evil"
    else:
        values["tokenizer_class"] = "Evil"
    (folder / file).write_text(json.dumps(values))

    def asked(*_: object) -> str:
        raise AssertionError("the user was asked whether to run the code")

    monkeypatch.setattr("builtins.input", asked)
    with pytest.raises(ModelUnavailableError, match="code of its own, which is never run"):
        await open_transformers(str(folder), "transformers/x")
    assert not marker.exists()


def test_a_hub_id_and_an_empty_folder_are_left_to_the_loaders(tmp_path: Path) -> None:
    check_safetensors(None, "x")
    check_safetensors(tmp_path, "x")
