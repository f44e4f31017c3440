"""Signs of life on a storage: fresh ones say that a run is driven, old ones and farewells that it is not."""

import time
from pathlib import Path

from orchestrator.run import lease
from orchestrator.storage.uri import Storage


def test_a_run_is_driven_while_its_driver_says_so(tmp_path: Path) -> None:
    storage = Storage.parse(str(tmp_path / "bucket"), "--storage").child("mine")
    assert lease.read(storage)["owner"] is None and not lease.is_driven(storage)
    lease.sign(storage, "host:/runs/mine", time.time())
    assert lease.read(storage)["owner"] == "host:/runs/mine" and lease.is_driven(storage)
    lease.sign(storage, "host:/runs/mine", time.time() - lease.LEASE_SECONDS - 1)
    assert not lease.is_driven(storage)
    lease.sign(storage, "host:/runs/mine", 0)
    assert not lease.is_driven(storage)
