"""Nothing in the tree runs what a file, a model or an answer says: no pickle, no remote code, no shell, no
unchecked certificate."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("prefgen", "judges", "trainers", "pipelines")
TREES = (*SHIPPED, "benchmarks", "data/quickstart/make")
_MODULES = {
    "pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle",
    "tarfile", "zipfile",
}  # fmt: skip
_NAMES = {"eval", "exec", "compile", "__import__"}
_CALLS = {
    "os.system", "os.popen", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
    "shutil.unpack_archive", "pandas.read_pickle", "pd.read_pickle", "datasets.load_from_disk",
}  # fmt: skip
_ATTRIBUTES = {"CERT_NONE", "_create_unverified_context", "allow_all_kernels"}
_SAFE = {"weights_only": True, "allow_pickle": False, "trust_remote_code": False, "shell": False,
         "verify": True, "ssl": True, "check_hostname": True}  # fmt: skip
_NEEDS = {"torch.load": ("weights_only", True)}
_LOADED = {"AutoTokenizer", "AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification"}
_WEIGHTS = {"AutoModelForCausalLM", "AutoModelForSequenceClassification"}


def faults(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name.split(".")[0] in _MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in _MODULES:
                yield module
            case ast.Call():
                yield from _of_call(node)
            case ast.Attribute(attr=name) if name in _ATTRIBUTES:
                yield name
            case ast.Assign(targets=[ast.Attribute(attr=name)], value=ast.Constant(value=value)):
                if name in _SAFE and value is not _SAFE[name]:
                    yield name


def _of_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    given = {word.arg: word.value for word in call.keywords}
    if name in _NAMES or name in _CALLS:
        yield name
    for word, safe in _SAFE.items():
        if isinstance(value := given.get(word), ast.Constant) and value.value is not safe:
            yield f"{name}({word}={value.value})"
    needed = dict([_NEEDS[name]]) if name in _NEEDS else {}
    owner, _, method = name.rpartition(".")
    if method == "from_pretrained" and (owner.split(".")[-1] in _LOADED or "getattr" in owner):
        needed["trust_remote_code"] = False
        if owner.split(".")[-1] in _WEIGHTS or "getattr" in owner:
            needed["use_safetensors"] = True
    if any(word.arg is None for word in call.keywords):
        return  # **options: `test_pickles.py` loads a model through them.
    for word, safe in needed.items():
        value = given.get(word)
        if value is None or (isinstance(value, ast.Constant) and value.value is not safe):
            yield f"{name} without {word}={safe}"


@pytest.mark.parametrize("tree", TREES)
def test_no_module_runs_code_from_data(tree: str) -> None:
    paths = sorted((ROOT / tree).rglob("*.py"))
    assert paths
    shipped = tree in SHIPPED
    found = {str(path.relative_to(ROOT)): [*faults(path.read_text("utf-8"))] for path in paths}
    # What we made ourselves a moment ago may be loaded as it comes outside of the packages.
    ours = {name: [f for f in told if shipped or "from_pretrained" not in f] for name, told in found.items()}
    assert {name: told for name, told in ours.items() if told} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import os\nos.system('ls')",
        "eval('1')",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True, use_safetensors=True)",
        "AutoModelForCausalLM.from_pretrained(path, trust_remote_code=False)",
        "AutoTokenizer.from_pretrained(path)",
        "getattr(transformers, auto).from_pretrained(path)",
        "httpx.AsyncClient(verify=False)",
        "session.post(url, ssl=False)",
        "context.check_hostname = False",
        "context.verify_mode = ssl.CERT_NONE",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert [*faults(source)]


def test_chat_templates_run_in_a_sandbox(tmp_path: Path) -> None:
    """A model's chat template is a program of its author's: it can read the messages and nothing else."""
    from tiny_models import make_tokenizer

    from prefgen.errors import RequestRefusedError
    from prefgen.messages import user
    from prefgen.models.local import ChatTokenizer

    marker = tmp_path / "ran"
    for template in (
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        f"{{{{ cycler.__init__.__globals__.os.system('touch {marker}') }}}}",
        f"{{{{ raise_exception.__globals__['__builtins__']['open']('{marker}', 'w') }}}}",
        f"{{% include '{__file__}' %}}",
    ):
        chat = ChatTokenizer(make_tokenizer(template), "transformers/x")
        with pytest.raises((RequestRefusedError, TypeError)):
            chat.prompt(user("hello"))
    assert not marker.exists()
