"""Samples and results made up for tests."""

from bench.result import Condition, Result, Sample

C64 = Condition(64, "always")


def sample(
    system: str,
    round_: int,
    per_second: int,
    server_us: float = 50.0,
    workload: str = "W1",
    condition: Condition = C64,
) -> Sample:
    return Sample(
        system=system,
        workload=workload,
        condition=condition,
        round=round_,
        requests=per_second * 2,
        seconds=2.0,
        server_user_us=server_us - 10,
        server_system_us=10.0,
        redis_us=0.0 if system == "floor" else 10.0,
        driver_us=8.0,
        redis_commands=0.2,
        script_calls=0.05,
        p50_ms=3.5,
        p99_ms=9.0,
        others=0.05,
    )


def result() -> Result:
    return Result(
        date="2026-11-22T10:00:00+00:00",
        commit="abc1234-dirty",
        command="python -m bench.grabs",
        cores="not pinned",
        skipped={"go-batched": "Go is not on PATH"},
        samples=[
            sample("flashgrab", 1, 12000),
            sample("textbook", 1, 6000, 110.0),
            sample("floor", 1, 80000, 20.0, condition=Condition(64, "no")),
            sample("flashgrab", 2, 14000),
            sample("textbook", 2, 5000, 130.0),
            sample("floor", 2, 80000, 25.0, condition=Condition(64, "no")),
        ],
        machine={"machine": "2 cores"},
        versions={"Python": "3.11.7"},
    )
