"""The installed wheel: what is in it, and `up` from a folder full of decoys."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.cli.stack_process import up

pytestmark = [pytest.mark.xdist_group("up")]

ROOT = Path(__file__).resolve().parents[2]
OUR_PACKAGES = ("flashgrab", "gateway", "worker", "centre")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *flags, str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_packages_and_the_scripts_only(wheel: Path) -> None:
    """flashgrab with every script of lua/, gateway, worker, centre, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops - {next(top for top in tops if top.endswith(".dist-info"))} == set(OUR_PACKAGES)
    scripts = {f"flashgrab/lua/{path.name}" for path in (ROOT / "lua").glob("*.lua")}
    assert scripts
    assert scripts <= set(names)
    assert "flashgrab/py.typed" in names
    # what the pages of /docs are made of: no module, so easily forgotten
    events = {f"flashgrab/docs/events/{path.name}" for path in (ROOT / "docs/events").iterdir()}
    shown = (path for path in (ROOT / "flashgrab/docs").rglob("*.*") if path.suffix != ".pyc")
    assert events | {str(path.relative_to(ROOT)) for path in shown} <= set(names)


def test_up_from_a_folder_of_decoys(wheel: Path, data: Path) -> None:
    """The installed command starts its own parts, though folders of their names lie around."""
    environment = data.parent / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    # The libraries of this environment, without its own (editable) flashgrab.
    site = next(environment.glob("lib/python*/site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")

    decoys = data.parent / "decoys"
    for name in (*OUR_PACKAGES, "redis", "uvicorn"):
        (decoys / name).mkdir(parents=True)
        (decoys / name / "__init__.py").write_text("raise SystemExit('a decoy was imported')\n")
    (decoys / "typer.py").write_text("raise SystemExit('a decoy was imported')\n")

    program = [str(environment / "bin" / "flashgrab"), "up"]
    with up(data, "--demo", program=program, cwd=decoys) as running:
        running.ready()
        for log in (data / "logs").iterdir():
            assert "decoy" not in log.read_text(errors="replace")
        assert running.stop() == 0
