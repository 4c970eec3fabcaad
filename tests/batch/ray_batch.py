"""The batch command on a local Ray of two workers, with an engine that does to itself what a row's prompt says.

`ray_batch.py FOLDER ARGUMENTS...`; run as a process, as Ray is one for the life of it.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATHS = [str(ROOT), str(ROOT / "tests/batch")]
sys.path[:0] = PATHS


def prepare_worker(folder=sys.argv[1], paths=PATHS):
    """What each worker of Ray does at its beginning."""
    import dataclasses
    import resource
    import signal
    import sys
    import time

    sys.path[:0] = paths
    import numpy as np

    from videopainter import engine
    from videopainter.batch.work import Batch

    spec = dataclasses.replace(engine.ENGINES["propagation"], location="batch_painter:Painter")
    engine.ENGINES["propagation"] = spec
    real = Batch._paint

    def paint(self, row, painter, place):
        with open(os.path.join(folder, "tried"), "a") as file:
            file.write(f"{row.prompt}\n")
        if row.prompt == "deadly" or (row.prompt == "once" and not os.path.exists(f"{folder}/died")):
            (place / "half").write_text("x")
            open(f"{folder}/died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if row.prompt == "hangs":
            time.sleep(3600)
        if row.prompt == "stop" and not os.path.exists(f"{folder}/stopped"):
            open(f"{folder}/stopped", "w").close()
            time.sleep(3600)
        if row.prompt == "memory":
            used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, before[1]))
            try:
                np.ones(2**30)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, before)
        return real(self, row, painter, place)

    Batch._paint = paint


def start_ray() -> None:
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    environment = {"PYTHONPATH": os.pathsep.join(PATHS)}
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=80_000_000,
        runtime_env={"env_vars": environment, "worker_process_setup_hook": prepare_worker},
    )


if __name__ == "__main__":
    from videopainter.batch import command
    from videopainter.cli.errors import door

    start_ray()
    prepare_worker()
    door(lambda: command.main(sys.argv[2:]))
