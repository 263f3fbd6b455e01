"""What the adapters share that run weights in this process: files, chat templates, label tokens."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefgen.completion import Capabilities, without_system
from prefgen.errors import ModelUnavailableError, RequestRefusedError, UsageError
from prefgen.messages import Message, Messages, as_dicts

_WHOLE_FILE = 64 * 2**20
_ADAPTER = "adapter_config.json"
_NOWHERE = re.compile(
    "couldn't connect to|cached snapshot folder|repository not found|not a valid model identifier|gated repo",
    re.IGNORECASE,
)
"""What the libraries say where a name is neither a folder nor a model that the hub gives."""
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def find_folder(name: str, spec: str) -> Path | None:
    """The folder of a local model; None for a hub id.

    Raises ModelUnavailableError for a name that is no hub id and no folder with a config either.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if any((folder / file).is_file() for file in ("config.json", "params.json", _ADAPTER)):
            return folder
        raise ModelUnavailableError(f"{spec}: {folder} holds no model: there is no config.json in it")
    if folder.is_file():
        raise ModelUnavailableError(f"{spec}: {folder} is a file; expected the folder of a model")
    is_path = name.startswith(("/", ".", "~")) or name.count("/") != 1 or Path(name.split("/")[0]).is_dir()
    if is_path and "/" in name:
        raise ModelUnavailableError(f"{spec}: there is no folder {folder}; expected one that holds a model")
    return None


def check_safetensors(folder: Path | None, spec: str) -> None:
    """Raises ModelUnavailableError for a folder whose weights are pickled: such a file can hold any program.

    Of a hub id (None) the loaders, told to take safetensors only, see for themselves.
    """
    if folder is None or any(folder.glob("*.safetensors")):
        return
    pickled = sorted(file.name for pattern in _PICKLED for file in folder.glob(pattern))
    if pickled:
        raise ModelUnavailableError(
            f"{spec}: the weights are pickled ({pickled[0]}), and such a file can run any program; expected "
            '.safetensors. Where you trust the file, convert it:\n  python -c "from transformers import '
            f"AutoModelForCausalLM as M; M.from_pretrained('{folder}').save_pretrained('{folder}-safe')\""
        )


def reason(error: Exception, name: str) -> str:
    """What a loader says of a model, without its advice to run a model's own code, or that there is no such
    model."""
    if _NOWHERE.search(str(error)) and not Path(name).expanduser().exists():
        offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
        hint = "HF_HUB_OFFLINE is set, so nothing is fetched" if offline else "a gated one needs HF_TOKEN"
        return f"there is no folder {name} here, and the Hugging Face hub gave no model {name} ({hint})"
    if "trust_remote_code" in str(error):
        return "it comes with code of its own, which is never run; use a model of a known architecture"
    return str(error)


def weights_identity(name: str, folder: Path | None) -> str:
    """A hub id as it is; for a folder a SHA-256 over the names, sizes and contents of its files.

    Of a file above 64 MB only the size and the time of its last change are hashed, so a large model
    that is copied without its times counts as another one. Sub-folders (older checkpoints) do not count.
    An adapter's identity holds its base's.
    """
    if folder is None:
        return name
    digest = hashlib.sha256()
    for file in sorted(entry for entry in folder.iterdir() if entry.is_file()):
        status = file.stat()
        digest.update(f"{file.name}\0{status.st_size}\0".encode())
        if status.st_size > _WHOLE_FILE:
            digest.update(str(status.st_mtime_ns).encode())
        else:
            digest.update(file.read_bytes())
    base = adapter_base(folder)
    if base is not None:
        digest.update(weights_identity(base, Path(base) if Path(base).is_dir() else None).encode())
    return digest.hexdigest()


def adapter_base(folder: Path | None) -> str | None:
    """The base model that a folder with a LoRA adapter names: a path or a hub id; None: no adapter."""
    if folder is None or not (folder / _ADAPTER).is_file():
        return None
    base = json.loads((folder / _ADAPTER).read_text()).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelUnavailableError(f"{folder / _ADAPTER} names no base_model_name_or_path")
    beside = folder / base
    return str(beside) if beside.is_dir() and not Path(base).is_dir() else base


def check_options(spec: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raises UsageError for the first unknown option, with the nearest known one."""
    names = sorted(known)
    for option in options:
        if option not in names:
            near = difflib.get_close_matches(option, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names[:20])}"
            raise UsageError(f"{spec}: unknown option {option!r}{hint}")


def check_reward_config(spec: str, architectures: Sequence[str] | None, labels: int) -> None:
    """Raises UsageError unless the model is a sequence classifier with one label."""
    name = (architectures or ["(none named)"])[0]
    if "SequenceClassification" not in name and "Reward" not in name:
        raise UsageError(
            f"{spec}: a reward model is a sequence classifier (…ForSequenceClassification), this is {name}"
        )
    if labels != 1:
        raise UsageError(f"{spec}: a reward model has one label, this one has {labels}")


class ChatTokenizer:
    """A tokenizer with what the adapters ask of it: conversations to token ids, words to label ids."""

    def __init__(self, tokenizer: Any, spec: str, capabilities: Capabilities | None = None) -> None:
        self.tokenizer, self._spec = tokenizer, spec
        self._capabilities = capabilities or Capabilities()
        # Asked for by every call, and a tokenizer hands out its vocabulary as a copy.
        self._labels: dict[str, list[int]] = {}
        self._tokens: dict[str, int | None] = {}

    def prompt(self, messages: Messages, *, thinking: bool = True) -> tuple[list[int], bool]:
        """Token ids of a conversation that the model shall answer, and whether they end in `<think>`.

        Raises UsageError where the tokenizer has no chat template.
        """
        if not self.tokenizer.chat_template:
            raise UsageError(
                f"{self._spec}: the tokenizer has no chat template, so messages cannot be put to this "
                "model; use a chat model, or save a chat_template.jinja beside its tokenizer"
            )
        text = self._render(messages, add_generation_prompt=True, enable_thinking=thinking)
        return self._encode(text), text.rstrip().endswith("<think>")

    def reward_text(self, messages: Messages, response: str) -> list[int]:
        """Token ids of a prompt with its answer; without a chat template: prompt, line break, answer."""
        if self.tokenizer.chat_template:
            return self._encode(self._render((*messages, Message("assistant", response))))
        text = "\n".join([*(message.content for message in messages), response])
        return list(self.tokenizer(text)["input_ids"])

    def label_ids(self, words: Sequence[str]) -> dict[str, list[int]]:
        """For each word the tokens that are it, alone or after a space; no token: the word is absent."""
        for word in words:
            if word not in self._labels:
                self._labels[word] = self._variants(word)
        return {word: self._labels[word] for word in words if self._labels[word]}

    def token_of(self, word: str) -> int | None:
        """The token that is exactly this word, without a space before it; None if it takes several."""
        if word not in self._tokens:
            ids = self.tokenizer(word, add_special_tokens=False)["input_ids"]
            self._tokens[word] = int(ids[0]) if len(ids) == 1 else None
        return self._tokens[word]

    def _variants(self, word: str) -> list[int]:
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        encoded = (self.token_of(variant) for variant in (word, " " + word))
        # SentencePiece writes a space before a word that starts a text, so its plain variant only shows here.
        listed = (vocabulary.get(variant) for variant in (word, "▁" + word, "Ġ" + word))
        return sorted({found for found in (*encoded, *listed) if found is not None})

    def _render(self, messages: Messages, **options: bool) -> str:
        from jinja2 import TemplateError

        system = [message.content.strip() for message in messages if message.role == "system"]
        if system and not self._capabilities.lacks("system_role"):
            try:
                text = self._apply(messages, options)
            except TemplateError as error:
                self._capabilities.learn_missing("system_role", str(error))
            else:
                if all(content in text for content in system):
                    return text
                self._capabilities.learn_missing("system_role", "the chat template leaves system text out")
        try:
            return self._apply(without_system(messages), options)
        except TemplateError as error:
            raise RequestRefusedError(f"{self._spec}: the chat template refuses it: {error}") from error

    def _apply(self, messages: Messages, options: Mapping[str, bool]) -> str:
        return str(self.tokenizer.apply_chat_template(as_dicts(messages), tokenize=False, **options))

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def load_tokenizer(name: str, spec: str) -> Any:
    """The tokenizer of a model folder or hub id. Raises ModelUnavailableError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(f"{spec}: cannot load the tokenizer: {reason(error, name)}") from error


def sum_logprobs(logprobs: Mapping[int, float], labels: Mapping[str, list[int]]) -> dict[str, float]:
    """log Σ exp over each word's tokens."""
    found = {word: [logprobs[token] for token in tokens] for word, tokens in labels.items()}
    return {word: _log_sum(values) for word, values in found.items()}


def _log_sum(values: Sequence[float]) -> float:
    top = max(values)
    return top if math.isinf(top) else top + math.log(sum(math.exp(value - top) for value in values))


def pick(logprobs: Mapping[str, float], temperature: float, seed: int | None) -> str:
    """One of the words: the likeliest at temperature 0, else drawn by their log-probabilities."""
    words = list(logprobs)
    top = max(logprobs.values())
    if temperature == 0:
        return max(words, key=logprobs.__getitem__)
    weights = [math.exp((logprobs[word] - top) / temperature) for word in words]
    return random.Random(seed).choices(words, weights)[0]
