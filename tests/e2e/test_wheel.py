"""The installed wheel, run from a folder full of decoys."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.e2e.running import READY_S

pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "-q",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            str(folder),
            str(ROOT),
        ],
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_product_and_nothing_else(wheel: Path) -> None:
    """The four packages with the scripts inside flashgrab; no tests, no bench."""
    names = zipfile.ZipFile(wheel).namelist()
    packages = {n.split("/")[0] for n in names if not n.startswith("flashgrab-")}
    assert packages == {"flashgrab", "gateway", "worker", "centre"}
    scripts = {Path(n).stem for n in names if n.startswith("flashgrab/lua/") and n.endswith(".lua")}
    assert scripts == {p.stem for p in (ROOT / "lua").glob("*.lua")}


def test_decoys_around_the_user_do_no_harm(wheel: Path, tmp_path: Path) -> None:
    """`flashgrab up` from a folder with its own worker/, lua/ and flashgrab.py gets ready."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "-q",
            "install",
            "--no-deps",
            str(wheel),
        ],
        check=True,
        capture_output=True,
    )
    site = next((home / "lib").glob("python3*/site-packages"))
    # The dependencies of this environment, without its editable flashgrab.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    decoys = tmp_path / "decoys"
    for package in ("worker", "gateway", "centre", "lua"):
        (decoys / package).mkdir(parents=True)
        (decoys / package / "__init__.py").write_text("raise SystemExit('a decoy was imported')\n")
    (decoys / "flashgrab.py").write_text("raise SystemExit('a decoy was imported')\n")
    (decoys / "lua" / "grab.lua").write_text("return 'a decoy was loaded'\n")
    up = subprocess.Popen(
        [
            str(home / "bin" / "flashgrab"),
            "up",
            "--data",
            str(tmp_path / "data"),
            "--port",
            "0",
            "--centre-port",
            "0",
        ],
        cwd=decoys,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert up.stdout is not None
        said = []
        for line in up.stdout:
            said.append(line)
            if line.startswith("ready "):
                break
        assert said[-1].startswith("ready "), "".join(said)
    finally:
        up.terminate()
        rest, _ = up.communicate(timeout=READY_S)
    assert up.returncode == 0, rest
    assert "decoy" not in "".join(said) + rest
