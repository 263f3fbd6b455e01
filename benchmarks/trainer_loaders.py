"""Exports of a run, opened by the trainers' own loaders: do they give back the run's pairs?

    python benchmarks/trainer_loaders.py [RUN [TRAINER or TRAINER/DATASET …]]

Without RUN scripted models make one. A trainer that is not installed is told of and left out. Their loaders
can be had without their dependencies, in a folder of their own:

    pip install --no-deps --target DIR llamafactory==0.9.5 axolotl==0.19.0 openrlhf==0.11.2 verl==0.9.1 \
        omegaconf antlr4-python3-runtime==4.9.3 addict fire termcolor einops colorama posthog pylatexenc \
        tensordict pyvers optree ring_flash_attn torchdata codetiming hydra-core
    PYTHONPATH=DIR DISABLE_VERSION_CHECK=1 python benchmarks/trainer_loaders.py RUN

What they import and the loading of data does not use (kernels, DeepSpeed) is replaced by empty modules. NeMo
RL is on no package index; its loader is used where a checkout is on the path.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import yaml

from pipelines.cli import cli
from pipelines.console import Console
from pipelines.export.config import ExportConfig
from pipelines.export.job import export
from pipelines.export.rows import RunRows
from pipelines.export.target import Dataset, Row
from pipelines.uses import FILE as USES
from prefgen.assets import asset
from prefgen.messages import as_dicts
from prefgen.run import RunDirectory

MODEL = asset("quickstart") / "models" / "policy"
Loader = Callable[[Path, Sequence[Row], Any], int]
"""Opens an export and compares it with the rows it was made of; returns how many it compared."""


class _Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands for packages that are imported and not used; numba too where it is installed and broken."""

    def __init__(self, *names: str) -> None:
        self._names = {name for name in names if name == "numba" or find_spec(name) is None}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.partition(".")[0] in self._names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> Any:
        module = MagicMock(name=spec.name)
        module.__spec__, module.__path__, module.__name__, module.__file__ = spec, [], spec.name, None
        module.__version__ = "0"
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        return None


def same(found: object, expected: object) -> None:
    if found != expected:
        raise SystemExit(f"not the same\n  loader: {found!r}\n  run:    {expected!r}")


def turns(row: Row) -> list[dict[str, str]]:
    assert not isinstance(row.prompt, str)
    return as_dicts(row.prompt)


def rendered(row: Row, tokenizer: Any) -> tuple[str, list[str]]:
    """The prompt as the chat template has it, and each response with what closes it."""
    prompt = tokenizer.apply_chat_template(turns(row), tokenize=False, add_generation_prompt=True)
    whole = [
        tokenizer.apply_chat_template([*turns(row), {"role": "assistant", "content": text}], tokenize=False)
        for text in row.responses
    ]
    return prompt, [text[len(prompt) :] for text in whole]


def trl(out: Path, rows: Sequence[Row], tokenizer: Any) -> int:
    """`load_dataset` and the trainer's own preparation, for each kind of rows."""
    import trl as package
    from datasets import load_dataset

    dataset = json.loads((out / "export.json").read_text())["dataset"]
    loaded = load_dataset(str(out), split="train")
    if dataset == "prompts":
        for row, values in zip(rows, loaded, strict=True):
            same(values["prompt"], turns(row))
        return len(rows)
    kind = {"dpo": "DPO", "kto": "KTO", "reward": "Reward"}[dataset]
    with tempfile.TemporaryDirectory() as folder:
        arguments = getattr(package, f"{kind}Config")(
            output_dir=folder, use_cpu=True, bf16=False, report_to="none", max_length=None
        )
        trainer = getattr(package, f"{kind}Trainer")(
            str(MODEL), args=arguments, train_dataset=loaded, processing_class=tokenizer
        )
    names = {"dpo": ["chosen", "rejected"], "reward": ["chosen", "rejected"], "kto": ["completion"]}[dataset]
    for row, values in zip(rows, trainer.train_dataset, strict=True):
        prompt, answers = rendered(row, tokenizer)
        for name, answer in zip(names, answers, strict=True):
            ids = values[f"{name}_ids"]
            whole = ids if dataset == "reward" else [*values["prompt_ids"], *ids]
            expected = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
            same(whole[: len(expected)], expected)  # An end of text may follow.
        if dataset == "kto":
            same(values["label"], row.label)
        if dataset == "reward":
            same(values["margin"], row.margin)
    return len(rows)


def llamafactory(out: Path, rows: Sequence[Row], tokenizer: Any) -> int:
    """Registration, conversion and tokenisation, by the functions `llamafactory-cli train` calls."""
    sys.meta_path.append(_Empty("torchaudio", "torchvision", "av", "modelscope"))
    from llamafactory.data.loader import _get_merged_dataset, _get_preprocessed_dataset
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    config = yaml.safe_load((out / "train.yaml").read_text())
    stage = {"dpo": "rm"}.get(config["stage"], config["stage"])
    data = DataArguments(
        template="chatml", dataset=config["dataset"], dataset_dir=str(out), overwrite_cache=True
    )
    model = SimpleNamespace(cache_dir=None, hf_hub_token=None)
    training = SimpleNamespace(local_process_index=0, seed=0, predict_with_generate=False, should_log=False)
    merged = _get_merged_dataset(data.dataset, model, data, training, stage)
    for row, values in zip(rows, merged, strict=True):
        prompt = turns(row)
        system = prompt.pop(0)["content"] if prompt[0]["role"] == "system" else ""
        same((values["_system"], values["_prompt"]), (system, prompt))
        answers = [turn["content"] for turn in values["_response"]]
        if stage == "kto":
            same(answers, [*row.responses, ""] if row.label else ["", *row.responses])
        else:
            same(answers, list(row.responses))
    template = get_template_and_fix_tokenizer(tokenizer, data)
    ready = _get_preprocessed_dataset(merged, data, training, stage, template, tokenizer)
    same(len(ready), len(rows))
    if stage == "kto":
        same(ready["kto_tags"], [row.label for row in rows])
    return len(rows)


def axolotl(out: Path, rows: Sequence[Row], tokenizer: Any) -> int:
    """`_load_split` of `axolotl train`, with the config that was written."""
    sys.meta_path.insert(0, _Empty("s3fs", "deepspeed", "wandb", "bitsandbytes", "liger_kernel", "numba"))
    from axolotl.prompt_strategies import bradley_terry
    from axolotl.utils.data import rl
    from axolotl.utils.data.shared import load_dataset_with_config
    from axolotl.utils.dict import DictDefault
    from axolotl.utils.schemas.enums import RLType

    settings = yaml.safe_load((out / "train.yaml").read_text())
    for entry in settings["datasets"]:
        entry["path"] = str(out / entry["path"])
    cfg = DictDefault({**settings, "sequence_len": 8192})
    if cfg.reward_model:
        loaded = load_dataset_with_config(cfg.datasets[0], None)
        kind = cfg.datasets[0]["type"].removeprefix("bradley_terry.")
        strategy = bradley_terry.load(kind, tokenizer, cfg, cfg.datasets[0])
        for row, values in zip(rows, loaded, strict=True):
            ready = strategy._tokenize_single_prompt(dict(values))
            prompt, answers = rendered(row, tokenizer)
            for name, answer in zip(("chosen_ids", "rejected_ids"), answers, strict=True):
                same(tokenizer.decode(ready[name]), tokenizer.decode(tokenizer(prompt + answer)["input_ids"]))
        return len(rows)
    cfg.rl = RLType(cfg.rl)
    cfg.skip_prepare_dataset = True
    rl.load_tokenizer = lambda _: tokenizer
    ready = rl._load_split(cfg, "train")
    # Its merging shuffles the rows, with a seed.
    names = ("completion",) if cfg.rl is RLType.KTO else ("chosen", "rejected")
    found = {tuple(values[name] for name in ("prompt", *names)) for values in ready}
    if cfg.rl is RLType.KTO:
        expected = {(_chatml(row), f"{row.responses[0]}<|im_end|>") for row in rows}
    else:
        expected = {
            (prompt, *(answer.rstrip() for answer in answers))
            for prompt, answers in (rendered(row, tokenizer) for row in rows)
        }
    same(len(ready), len(rows))
    same(found ^ expected, set())
    return len(rows)


def _chatml(row: Row) -> str:
    said = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns(row))
    return said + "<|im_start|>assistant\n"


def openrlhf(out: Path, rows: Sequence[Row], tokenizer: Any) -> int:
    """`blending_datasets` and `RewardDataset` or `PromptDataset`, as its command lines call them."""
    sys.meta_path.append(
        _Empty("deepspeed", "flash_attn", "bitsandbytes", "ring_flash_attn", "wandb", "loralib")
    )
    from openrlhf.datasets import PromptDataset, RewardDataset
    from openrlhf.datasets.utils import blending_datasets

    keys = {"prompt_key": "prompt", "chosen_key": "chosen", "rejected_key": "rejected"}
    keys |= {"input_key": "prompt", "label_key": "label", "apply_chat_template": True}
    strategy = SimpleNamespace(
        args=SimpleNamespace(data=SimpleNamespace(**keys), use_ms=False),
        print=lambda *_: None,
        is_rank_0=lambda: False,
    )
    loaded = blending_datasets(str(out / "train.jsonl"), None, strategy, dataset_split="train")
    dataset = json.loads((out / "export.json").read_text())["dataset"]
    if dataset == "prompts":
        ready = PromptDataset(loaded, tokenizer, strategy)
        for row, (_, prompt, label, images) in zip(rows, list(ready), strict=True):
            same((prompt, label, images), (rendered(row, tokenizer)[0], row.reference or "", None))
        return len(rows)
    ready = RewardDataset(loaded, tokenizer, 8192, strategy, is_dpo=dataset == "dpo", num_processors=1)
    for row, *found in zip(rows, ready.prompts, ready.chosens, ready.rejects, ready.extras, strict=True):
        prompt, answers = rendered(row, tokenizer)
        same(found[:3], [prompt, *answers])
        if dataset == "reward":
            same(found[3], row.margin)
    return len(rows)


def nemo_rl(out: Path, rows: Sequence[Row], tokenizer: Any) -> int:
    """`PreferenceDataset`, as the config asks for it."""
    from nemo_rl.data.datasets.preference_datasets.preference_dataset import PreferenceDataset

    ready = PreferenceDataset(str(out / "train.jsonl"), split="train", skip_set_processor=True).dataset
    for row, values in zip(rows, ready, strict=True):
        same(values["context"], turns(row))
        ranked = sorted(values["completions"], key=lambda item: item["rank"])
        same([item["completion"][0]["content"] for item in ranked], list(row.responses))
    return len(rows)


def verl(out: Path, rows: Sequence[Row], tokenizer: Any) -> int:
    """`RLHFDataset`, as `verl.trainer.main_ppo` builds it."""
    from omegaconf import OmegaConf
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

    with tempfile.TemporaryDirectory() as cache:
        config = OmegaConf.create(
            {"prompt_key": "prompt", "max_prompt_length": 8192, "cache_dir": cache, "return_raw_chat": True,
             "filter_overlong_prompts_workers": 1}
        )  # fmt: skip
        ready = RLHFDataset(str(out / "train.parquet"), tokenizer, config)
        items = [ready[place] for place in range(len(ready))]
    for row, values in zip(rows, items, strict=True):
        same(values["raw_prompt"], turns(row))
        same(values["reward_model"]["ground_truth"], row.reference or "")
        same(values["index"], row.line - 1)
    collate_fn(items)
    return len(rows)


LOADERS: dict[str, tuple[str, Loader, tuple[Dataset, ...]]] = {
    "trl": ("trl", trl, ("dpo", "kto", "reward", "prompts")),
    "llamafactory": ("llamafactory", llamafactory, ("dpo", "kto", "reward")),
    "axolotl": ("axolotl", axolotl, ("dpo", "kto", "reward")),
    "openrlhf": ("openrlhf", openrlhf, ("dpo", "reward", "prompts")),
    "nemo-rl": ("nemo_rl", nemo_rl, ("dpo", "reward")),
    "verl": ("verl", verl, ("prompts",)),
}


def compare(run: Path, trainer: Any, dataset: Dataset, load: Loader, folder: Path) -> tuple[int, int]:
    """How many rows the loader gave back as they are in the run, and how many were refused before."""
    from transformers import AutoTokenizer

    out = folder / f"{trainer}-{dataset}"
    config = ExportConfig.model_validate(
        {
            "run": run,
            "trainer": trainer,
            "dataset": dataset,
            "out": out,
            "margin": dataset == "reward",
            "max_rejected": 0.9,
        }
    )
    made = export(config, Console(quiet=True, as_json=True))
    left = made["rejected_file"]
    refused = [json.loads(line) for line in Path(left).read_text("utf-8").split("\n")[:-1]] if left else []
    gone = {item["line"] for item in refused if "test.parquet" not in item["file"]}
    directory = RunDirectory.open(run)
    reference = directory.config.get("reference") if dataset == "prompts" else None
    source = RunRows(directory, dataset, as_text=False, reference=reference)
    rows = [source.parse(line, raw) for line, raw in source.read("train") if line not in gone]
    return load(out, rows, AutoTokenizer.from_pretrained(MODEL)), len(refused)


def scripted(folder: Path) -> Path:
    """A small run."""
    run = folder / "run"
    prompts = str(asset("quickstart") / "prompts.jsonl")
    models = ["--policy", "scripted/writer", "--judge", "scripted/judge", "--n", "4"]
    places = ["--out", str(run), "--ledger", str(folder / "ledger.sqlite")]
    cli.main(["generate", prompts, *models, *places, "--quiet"], standalone_mode=False)
    return run


def seen(run: Path, folder: Path) -> Path:
    """The run under another name: an export is noted in its run, and these are gone at once."""
    own = folder / "run"
    own.mkdir(parents=True)
    for path in run.resolve().iterdir():
        if path.name != USES:
            (own / path.name).symlink_to(path)
    return own


def main() -> None:
    given, chosen = sys.argv[1:2], sys.argv[2:]
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare_all(seen(Path(given[0]), folder) if given else scripted(folder), chosen)


def compare_all(run: Path, chosen: Sequence[str]) -> None:
    for trainer, (package, load, datasets) in LOADERS.items():
        wanted = [name for name in datasets if not chosen or {trainer, f"{trainer}/{name}"} & {*chosen}]
        if not wanted:
            continue
        try:
            found = version(package.replace("_", "-"))
        except PackageNotFoundError:
            found = "" if find_spec(package) is None else "unknown version"
        if not found or find_spec(package) is None:
            print(f"{trainer}: not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            for dataset in wanted:
                given, refused = compare(run, trainer, dataset, load, Path(folder))
                print(
                    f"{trainer} {found}, {dataset}: {given} rows given back by its loader, {refused} refused"
                )
                sys.stdout.flush()


if __name__ == "__main__":
    main()
