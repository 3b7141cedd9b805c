"""nginx-Lua: a keepalive pool, one EVALSHA a request (bench/nginx/grab.lua)."""

import hashlib
from pathlib import Path

from bench.books import ONE, OneBooks
from bench.commands import plain_env
from bench.passes import HmacPasses
from bench.systems import nginx

SERVER = """
    init_by_lua_block {{
        local script = {{ sha = '{sha}', text = io.open('{script}'):read('*a') }}
        grab = dofile('{lua}')('{key}', script, {redis_port})
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/v1/campaigns/(?<campaign>[^/]+)/grabs$ {{
            content_by_lua_block {{ grab() }}
        }}
    }}
"""


class NginxLua:
    """One worker of nginx."""

    name = "nginx-lua"
    workloads = frozenset({"W1"})

    def __init__(self, passes: HmacPasses) -> None:
        self.passes = passes
        self.books = OneBooks()

    def missing(self) -> str | None:
        if nginx.program() is None:
            return nginx.MISSING
        if not nginx.lua_modules():
            return "nginx has no Lua here: `apt-get install libnginx-mod-http-lua`"
        return None

    def command(self, redis_port: int, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        server = SERVER.format(
            sha=hashlib.sha1(ONE.read_bytes(), usedforsecurity=False).hexdigest(),
            script=ONE,
            lua=nginx.NGINX / "grab.lua",
            key=self.passes.key,
            redis_port=redis_port,
            port=port,
        )
        return nginx.configure(folder, server, nginx.lua_modules()), plain_env()
