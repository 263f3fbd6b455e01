"""A vLLM engine in this process' care: started quietly, explained when it fails, stopped without a trace.

`AsyncLLM` keeps the engine in a process of its own; `prefgen/models/vllm_process.py` runs in there.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import multiprocessing
import os
import re
import sys
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from prefgen.errors import (
    MissingExtraError,
    ModelUnavailableError,
    RequestRefusedError,
    TransientError,
    UsageError,
)
from prefgen.messages import Json
from prefgen.models.local import (
    adapter_base,
    check_options,
    check_safetensors,
    find_folder,
    weights_identity,
)
from prefgen.models.local import (
    reason as why,
)
from prefgen.models.reloading import NotReloadedError, objection, precision
from prefgen.models.vllm_cache import PrefixCache

CPU_CONTEXT = 4096
_GPU_SHARE = 0.9
_LOG_LINES = 8
# A seeded request whose prompt is read in two chunks kills vLLM 0.32's worker on the CPU: it turns the
# generator's offset back, which only a CUDA generator has.
_ON_CPU = {"enforce_eager": True, "enable_chunked_prefill": False}
_NAMED_ERROR = re.compile(r"(?<![\w.])[\w.]*(?:Error|Exception): .+")
_STARTING = threading.Lock()
# vLLM reads these when it is imported and whenever it likes, so they stay set.
_QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}


@dataclass(slots=True)
class LocalEngine:
    """`llm`: vLLM's AsyncLLM. `context`: tokens of prompt and answer together, at most. `lora`: vLLM's
    request for the adapter, None without one. `log`: what the engine's process printed. `folder`: of the
    weights, None for a model of the hub; `options`: as given; `cache`: what the prefix cache gave."""

    llm: Any
    spec: str
    identity: str
    context: int
    log: Path
    lora: Any = None
    folder: Path | None = None
    options: Mapping[str, Json] = field(default_factory=dict)
    cache: PrefixCache = field(default_factory=PrefixCache)
    _pids: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def errors(self) -> AsyncIterator[None]:
        """vLLM's exceptions as ours."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        if self.llm is None:
            raise ModelUnavailableError(f"{self.spec}: it was closed")
        try:
            yield
        except EngineDeadError as error:
            raise ModelUnavailableError(f"{self.spec}: the vLLM engine died{_tail(self.log)}") from error
        except EngineGenerateError as error:
            raise TransientError(f"{self.spec}: {error.__cause__ or error}") from error
        except (VLLMClientError, ValueError) as error:
            raise RequestRefusedError(f"{self.spec}: {error}") from error

    def request_id(self) -> str:
        return uuid.uuid4().hex

    def check_length(self, tokens: int, reserve: int) -> None:
        """Raises RequestRefusedError where `tokens` and `reserve` more do not fit the model."""
        if tokens + reserve > self.context:
            raise RequestRefusedError(
                f"{self.spec}: the prompt has {tokens} tokens, the model takes {self.context - reserve}; "
                "shorten it, or raise the option max_model_len"
            )

    async def reload(self, name: str, spec: str) -> None:
        """Puts the weights of another folder into the running engine, whose workers read them themselves.

        Raises NotReloadedError.
        """
        folder = find_folder(name, spec)
        reason = self._objection(folder)
        if folder is None or reason is not None:
            raise NotReloadedError(reason or "a model of the hub")
        identity = await asyncio.to_thread(weights_identity, name, folder)
        try:
            await self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
        except Exception as error:
            raise NotReloadedError(f"vLLM could not: {error}") from error
        # What was cached of a prompt was computed with the old weights.
        if not await self.llm.reset_prefix_cache():
            raise NotReloadedError("its prefix cache is in use")
        self.spec, self.identity, self.folder = spec, identity, folder

    def _objection(self, folder: Path | None) -> str | None:
        from vllm.platforms import current_platform

        if folder is None or self.folder is None:
            return "a model of the hub"
        model = self.llm.model_config
        running = str(model.dtype).removeprefix("torch.")
        if "dtype" not in self.options and precision(folder) not in (None, running):
            return f"another precision: {running}, then {precision(folder)}"
        if current_platform.is_cpu() and getattr(model.hf_text_config, "tie_word_embeddings", False):
            return "on the CPU vLLM keeps the old output head of a model with tied embeddings"
        return objection(self.folder, folder)

    async def aclose(self) -> None:
        """Ends the engine's processes; does nothing the second time."""
        if self.llm is None:
            return
        llm, self.llm = self.llm, None
        await _stop_reading(llm)
        try:
            await asyncio.to_thread(llm.shutdown)
        finally:
            await asyncio.to_thread(_end, self._pids)
            # vLLM closes its sockets by a callback on this loop, and leaves the context open.
            await asyncio.sleep(0)
            llm.engine_core.resources.ctx.destroy(linger=0)
            self.log.unlink(missing_ok=True)


async def _stop_reading(llm: Any) -> None:
    """Ends the task that reads the engine's outputs, which else reports the end as a failure, and with
    an error those who still wait for one."""
    from vllm.v1.engine.exceptions import EngineDeadError

    if llm.output_handler is not None:
        llm.output_handler.cancel()
        await asyncio.wait([llm.output_handler])
    llm.output_processor.propagate_error(EngineDeadError())


def _named(error: Exception, name: str) -> str:
    told = why(error, name)
    return told if told != str(error) else f"{type(error).__name__}: {told}"


async def start(
    name: str, spec: str, options: Mapping[str, Json] | None, share: int, **fixed: Json
) -> LocalEngine:
    """Starts the engine of a model (about 15 s). `fixed`: engine arguments that options cannot change.

    Raises UsageError, MissingExtraError, ModelUnavailableError with the end of the engine's log.
    """
    if importlib.util.find_spec("vllm") is None:
        raise MissingExtraError("vllm", "vllm")
    folder = find_folder(name, spec)
    if "load_format" not in (options or {}):
        check_safetensors(folder, spec)
    identity = await asyncio.to_thread(weights_identity, name, folder)
    with tempfile.NamedTemporaryFile(prefix="prefgen-vllm-", suffix=".log", delete=False) as file:
        log = Path(file.name)
    model = str(folder) if folder else name
    engine = LocalEngine(None, spec, identity, 0, log, folder=folder, options=dict(options or {}))
    try:
        await asyncio.to_thread(_build, engine, model, dict(options or {}), share, fixed)
    except UsageError:
        log.unlink()
        raise
    except Exception as error:
        shown = _tail(log)
        if not shown:
            log.unlink()
        raise ModelUnavailableError(f"{spec}: vLLM cannot start it: {_named(error, name)}{shown}") from error
    return engine


def _build(
    engine: LocalEngine, model: str, options: dict[str, Json], share: int, fixed: Mapping[str, Json]
) -> None:
    with _STARTING, _environment(engine.log):
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM
        from vllm.v1.executor import Executor

        from prefgen.models.vllm_process import detached

        arguments = _arguments(engine, model, options, share, fixed)
        config = arguments.create_engine_config(UsageContext.LLM_CLASS)
        with _output_into(engine.log):
            engine.llm = AsyncLLM(
                vllm_config=config,
                executor_class=detached(Executor.get_class(config)),
                log_stats=True,
                log_requests=False,
            )
    engine.cache = PrefixCache.counting(engine.llm)
    engine.context = engine.llm.model_config.max_model_len
    engine._pids = _processes(engine.llm)


def _arguments(
    engine: LocalEngine, model: str, options: dict[str, Json], share: int, fixed: Mapping[str, Json]
) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    # Code that comes with a model is never run, and the model is the spec's.
    known = {entry.name for entry in fields(AsyncEngineArgs)} - {"trust_remote_code", "model", *fixed}
    check_options(engine.spec, options, known)
    is_cpu = current_platform.is_cpu()
    chosen: dict[str, Any] = {
        "enable_prefix_caching": True,
        # By itself vLLM takes pickled weights where there are no others.
        "load_format": "safetensors",
        # xgrammar's JSON allows endless white space, and small models fall into it.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        **(_ON_CPU if is_cpu else {"gpu_memory_utilization": _GPU_SHARE / share}),
        **options,
        **fixed,
    }
    chosen |= _adapter(engine, model) or {"model": model}
    arguments = AsyncEngineArgs(**chosen)
    own = arguments.create_model_config()
    if is_cpu and arguments.max_model_len is None:
        arguments.max_model_len = min(own.max_model_len, CPU_CONTEXT)
    if "dtype" not in options and (dtype := getattr(own.hf_config, "dtype", None)) is not None:
        # vLLM by itself would run float32 weights in bfloat16.
        arguments.dtype = str(dtype).removeprefix("torch.")
    return arguments


def _adapter(engine: LocalEngine, model: str) -> dict[str, Any] | None:
    """Engine arguments for a folder with a LoRA adapter; None where the model is no adapter."""
    folder = Path(model)
    base = adapter_base(folder if folder.is_dir() else None)
    if base is None:
        return None
    from vllm.lora.request import LoRARequest

    rank = json.loads((folder / "adapter_config.json").read_text()).get("r", 16)
    engine.lora = LoRARequest("adapter", 1, str(folder.resolve()))
    sizes = (1, 8, 16, 32, 64, 128, 256, 320, 512)
    return {"model": base, "enable_lora": True, "max_lora_rank": next(n for n in sizes if n >= rank)}


@contextmanager
def _environment(log: Path) -> Iterator[None]:
    """What the engine's process shall find; afterwards nothing but vLLM's own variables stays changed.

    vLLM also leaves LD_PRELOAD and LOCAL_WORLD_SIZE behind, which would reach later trainings.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # vLLM warns while it is imported, before it sets its own level.
    logging.getLogger("vllm").setLevel(logging.ERROR)
    before = dict(os.environ)
    os.environ.update({"TQDM_DISABLE": "1", "PREFGEN_ENGINE_LOG": str(log)})
    try:
        yield
    finally:
        for name in [name for name in os.environ if not name.startswith("VLLM_")]:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


@contextmanager
def _output_into(log: Path) -> Iterator[None]:
    """Sends descriptors 1 and 2 to the log until a child process is born, which inherits them."""
    known = multiprocessing.active_children()
    over = threading.Event()

    def give_back() -> None:
        while not over.wait(0.002) and multiprocessing.active_children() == known:
            pass
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for target, kept in saved.items():
            os.dup2(kept, target)
            os.close(kept)

    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = {target: os.dup(target) for target in (1, 2)}
    with log.open("ab") as file:
        for target in saved:
            os.dup2(file.fileno(), target)
    watcher = threading.Thread(target=give_back, daemon=True, name="prefgen-output")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _processes(llm: Any) -> list[int]:
    """The engine's process and its workers."""
    import psutil

    started = [process.pid for process in llm.engine_core.resources.engine_manager.processes]
    return [pid for root in started for pid in (root, *(c.pid for c in psutil.Process(root).children(True)))]


def _end(pids: list[int]) -> None:
    """Waits for the processes to end, and kills those that do not."""
    import psutil

    alive = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    for process in psutil.wait_procs(alive, timeout=5)[1]:
        process.kill()


def _tail(log: Path) -> str:
    """The errors that the log names, the first being the cause, and its last lines."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    if not lines:
        return ""
    named = dict.fromkeys(match[0] for match in map(_NAMED_ERROR.search, lines) if match)
    head = f"\nfrom its log ({log}):"
    return "\n  ".join([head, *list(named)[:3], "…", *lines[-_LOG_LINES:]])
