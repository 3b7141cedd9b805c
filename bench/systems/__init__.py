"""The systems that are compared, one file each; ours first."""

from bench.passes import Blake2Passes, HmacPasses
from bench.systems.floor import Floor
from bench.systems.go_batched import GoBatched
from bench.systems.go_pipelined import GoPipelined
from bench.systems.nginx_lua import NginxLua
from bench.systems.ours import Ours
from bench.systems.system import System
from bench.systems.textbook import Textbook


def all_systems() -> list[System]:
    """Fresh keys, one a form of pass; those whose tools are missing too (`System.missing`)."""
    ours, hmac = Blake2Passes(), HmacPasses()
    return [
        Ours(ours),
        Textbook(hmac),
        NginxLua(hmac),
        GoPipelined(ours),
        GoBatched(ours),
        Floor(ours),
    ]
