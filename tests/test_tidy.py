"""What keeps the code base tidy and no linter knows: each rule as a pure check, and its control."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parent.parent
PRODUCT = ("flashgrab", "gateway", "worker", "centre")

ADAPTERS: dict[str, tuple[str, ...]] = {
    "redis": ("flashgrab/store.py", "flashgrab/wire.py"),
    "hiredis": ("flashgrab/store.py", "flashgrab/wire.py"),
    "aiokafka": ("flashgrab/broker.py", "flashgrab/broker/", "flashgrab/partition.py"),
    "asyncpg": ("flashgrab/ledger.py", "flashgrab/ledger/"),
    "sqlalchemy": ("flashgrab/ledger.py", "flashgrab/ledger/", "flashgrab/migrations/"),
    "opentelemetry": ("flashgrab/otel.py",),
    "alembic": ("flashgrab/ledger.py", "flashgrab/ledger/", "flashgrab/migrations/"),
}
"""The modules that may know a client library: one adapter per outside system."""

KEY = re.compile(r"\{c:|flashgrab:\w|:(holders|devices|outbox)\b|^flashgrab\.grabs")
KEYS_MODULE = "flashgrab/keys.py"
NO_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "base", "misc"}
DOCUMENTS = ("README.md", "docs/*.md", "lua/README.md")
SUFFIXES = {".py", ".lua", ".md", ".toml", ".sh", ".lock", ".yml", ".yaml", ".xml"}
NOT_OURS = {"uv.lock"}
"""Files that documents speak of because this repository does not have them."""
MADE = (".venv", ".flashgrab", ".cache", "dist", "build")
"""Folders that running or building makes; a document may name what will be in them."""
# In pieces, so that this file does not hold what it looks for.
HOSTS = re.compile(
    "|".join(
        part + r"\." + end
        for part, end in (
            ("pypi", "org"), ("pythonhosted", "org"), (r"repo\d?", "maven"), ("npmjs", "org"),
            ("docker", "io"), ("ghcr", "io"), ("quay", "io"), ("crates", "io"), ("gcr", "io"),
        )
    )
)  # fmt: skip

Check = Callable[[str, str], list[str]]
"""Path and text of a file to what is wrong with it."""


def files(*patterns: str) -> list[str]:
    """Committed files, and new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def found(names: Iterable[str], check: Check) -> list[str]:
    """Everything that a check finds, each with its file."""
    problems = []
    for name in names:
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        problems += [f"{name}: {problem}" for problem in check(name, text)]
    return problems


def product() -> list[str]:
    names = files("*.py")
    assert len(names) > 20
    return [name for name in names if name.split("/")[0] in PRODUCT]


# -- the checks -----------------------------------------------------------------------------------


def foreign_imports(path: str, text: str) -> list[str]:
    """Client libraries that are imported outside their adapter."""
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    return [
        f"imports {library}"
        for library in sorted(imported & ADAPTERS.keys())
        if not path.startswith(ADAPTERS[library])
    ]


def key_names(path: str, text: str) -> list[str]:
    """Names of keys and topics that are spelled outside keys.py (docstrings may speak of them)."""
    if path == KEYS_MODULE:
        return []
    tree = ast.parse(text)
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        f"line {node.lineno} spells {node.value!r}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in prose and KEY.search(node.value)
    ]


def dead_paths(path: str, text: str) -> list[str]:
    """Paths in backticks, and relative links, that lead nowhere."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`([^`\s]+)`", text)) | set(re.findall(r"\]\(([^)#\s]+)", text))
    return sorted(f"names {name}" for name in named if is_path(name) and not leads(path, name))


def is_path(name: str) -> bool:
    """Whether a word means a file of this repository."""
    if not re.fullmatch(r"[\w.*][\w./*-]*(::\w+)?", name):
        return False
    parts = PurePosixPath(name.partition("::")[0]).parts
    if not parts or parts[0] in MADE or name in NOT_OURS:
        return False
    return PurePosixPath(parts[-1]).suffix in SUFFIXES or (
        "/" in name and (ROOT / parts[0]).exists()
    )


def leads(document: str, name: str) -> bool:
    plain = name.partition("::")[0].rstrip("/")
    folders = (ROOT, (ROOT / document).parent)
    return any(next(iter(folder.glob(plain)), None) for folder in folders)


def speechless_tests(path: str, text: str) -> list[str]:
    """Tests that do not say in a sentence what they show."""
    return [
        f"line {node.lineno}: {node.name} has no sentence"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_")
        if not re.match(r"[^\n].*[.?!]", ast.get_docstring(node) or "", re.DOTALL)
    ]


def vague_name(path: str, text: str) -> list[str]:
    """A file or folder whose name does not tell the one thing inside."""
    words = {PurePosixPath(part).stem.strip("_") for part in PurePosixPath(path).parts}
    return [f"is named {word}" for word in sorted(words & NO_NAMES)]


def registry_hosts(path: str, text: str) -> list[str]:
    """Addresses of package registries: where packages come from is the machine's affair."""
    problems = [f"names {host}" for host in sorted(set(HOSTS.findall(text)))]
    if path.endswith(".lock") and re.search(r"https?://", text):
        problems.append("holds an address")
    return problems


# -- the rules ------------------------------------------------------------------------------------


def test_one_adapter_per_outside_system() -> None:
    """Only the adapters import the client libraries."""
    assert found(product(), foreign_imports) == []


def test_key_names_only_in_keys() -> None:
    """No product module but keys.py spells the name of a key, channel or topic."""
    assert found(product(), key_names) == []


def test_paths_in_documents_exist() -> None:
    """Every path of this repository that a document names is there."""
    documents = files(*DOCUMENTS)
    assert {"README.md", "lua/README.md"} <= set(documents)
    assert found(documents, dead_paths) == []


def test_every_test_says_what_it_shows() -> None:
    """Every test function has a docstring that is a sentence."""
    assert found(files("tests/*.py"), speechless_tests) == []


def test_names_tell_what_is_inside() -> None:
    """No file is named for everything and nothing."""
    assert found(files(), vague_name) == []


def test_no_registry_address() -> None:
    """No committed file names the host of a package registry."""
    assert found(files(), registry_hosts) == []


@pytest.mark.parametrize(
    "check,path,text",
    [
        (foreign_imports, "gateway/x.py", "import redis.asyncio as r"),
        (foreign_imports, "worker/x.py", "def f():\n    from aiokafka import AIOKafkaProducer"),
        (foreign_imports, "flashgrab/store.py", "import asyncpg"),
        (foreign_imports, "flashgrab/ledger_of.py", "import asyncpg"),
        (key_names, "gateway/x.py", "key = f'{{c:{name}}}:r:1'"),
        (key_names, "worker/x.py", "key = tag + ':outbox'"),
        (key_names, "centre/x.py", "channel = 'flashgrab:changes'"),
        (key_names, "worker/x.py", "topic = 'flashgrab.grabs'"),
        (dead_paths, "README.md", "see `docs/nothing.md`"),
        (dead_paths, "README.md", "see `lua/none.lua` and `lua/grab.lua`"),
        (dead_paths, "README.md", "see `gateway/none/`"),
        (dead_paths, "README.md", "see [it](docs/none.md)"),
        (dead_paths, "lua/README.md", "see `none.lua`"),
        (speechless_tests, "tests/test_x.py", "def test_x():\n    pass"),
        (speechless_tests, "tests/test_x.py", "async def test_x():\n    'no sentence'"),
        (vague_name, "flashgrab/utils.py", ""),
        (vague_name, "gateway/common/x.py", ""),
        (registry_hosts, "x.toml", "url = 'https://" + "pypi" + ".org/simple'"),
        (registry_hosts, "requirements.lock", "--index-url http://10.0.0.1/simple"),
    ],
)
def test_checks_find_a_planted_fault(check: Check, path: str, text: str) -> None:
    """Negative control: each rule sees what it is for."""
    assert check(path, text)


@pytest.mark.parametrize(
    "check,path,text",
    [
        (foreign_imports, "flashgrab/store.py", "import redis.asyncio as r"),
        (foreign_imports, "flashgrab/ledger/pool.py", "import asyncpg"),
        (key_names, "gateway/x.py", '"""Speaks of {c:ID}."""\nx = {c: 1 for c in y}'),
        (key_names, "worker/x.py", "print(f'flashgrab: {line}', ':r')"),
        (dead_paths, "README.md", "`lua/*.lua`, `/v1/grabs`, `text/plain`, `.venv/bin/x`, `a.b`"),
        (dead_paths, "lua/README.md", "`grab.lua` and [it](../pyproject.toml)"),
        (speechless_tests, "tests/test_x.py", "def test_x():\n    'It does.'"),
        (vague_name, "flashgrab/database.py", ""),
    ],
)
def test_checks_let_sound_things_be(check: Check, path: str, text: str) -> None:
    """The rules do not find what is none of their business."""
    assert check(path, text) == []
