"""nginx for the references that run in it: found, and given a configuration in a folder."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from bench.processes import ROOT

NGINX = ROOT / "bench" / "nginx"
MISSING = "nginx is not on PATH: `apt-get install nginx`"


def program() -> str | None:
    """Where nginx is; Debian keeps it off an ordinary user's PATH."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@cache
def lua_modules() -> list[Path]:
    """The shared objects to load, in order; empty where they are not there."""
    nginx = program()
    if nginx is None:
        return []
    built = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"--modules-path=(\S+)", built)
    folder = Path(found[1] if found else "/usr/lib/nginx/modules")
    files = [folder / "ndk_http_module.so", folder / "ngx_http_lua_module.so"]
    return files if all(file.exists() for file in files) else []


def configure(folder: Path, server: str, load: list[Path]) -> list[str]:
    """Write nginx.conf into a folder; the command that serves it."""
    conf = (NGINX / "nginx.conf").read_text()
    modules = "\n".join(f"load_module {file};" for file in load)
    (folder / "nginx.conf").write_text(conf.format(load=modules, server=server))
    nginx = program()
    assert nginx is not None
    return [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
