"""What Prometheus is told: by one process, by several apps in one, and by several processes together."""

from __future__ import annotations

import os
import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families
from serving_fakes import Tiny

from manymatch import __version__
from manymatch.web.metrics import MULTIPROCESS, Metrics, gone


def told(text: bytes) -> dict[str, float]:
    families = text_string_to_metric_families(text.decode())
    return {f"{s.name}{sorted(s.labels.values())}": s.value for family in families for s in family.samples}


def test_what_is_told():
    metrics = Metrics()
    metrics.about(Tiny())  # type: ignore[arg-type]
    metrics.started()
    metrics.finished("/api/search", "GET", 200, 0.0005, searched=True)
    metrics.finished("/api/search", "BREW", 400, 0.3)
    metrics.shed("rate")
    metrics.opened()
    metrics.opened()
    metrics.closed()
    metrics.cut("idle")
    found = told(metrics.render())
    assert found["manymatch_requests_total['/api/search', '200', 'GET']"] == 1
    assert found["manymatch_requests_total['/api/search', '400', 'other']"] == 1
    assert found["manymatch_request_seconds_bucket['/api/search', '0.001']"] == 1
    assert found["manymatch_request_seconds_bucket['/api/search', '0.5']"] == 2
    assert found["manymatch_search_seconds_count[]"] == 1
    assert found["manymatch_searches_running[]"] == 1
    assert found["manymatch_shed_total['rate']"] == 1
    assert found["manymatch_connections_open[]"] == 1
    assert found["manymatch_connections_cut_total['idle']"] == 1
    assert found["manymatch_items['image']"] == 0
    assert found[f"manymatch_build_info{sorted([__version__, Tiny().info()['model'], 'none'])}"] == 1
    assert not [name for name in found if "_created" in name]


def test_two_apps_of_a_process_count_for_themselves():
    first, second = Metrics(), Metrics()
    first.shed("rate")
    assert "manymatch_shed_total['rate']" not in told(second.render())


PROCESS = """
import sys
from pathlib import Path
from manymatch.web.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]))
metrics.finished("/api/search", "GET", 200, 0.002)
metrics.opened()
print("counted", flush=True)
sys.stdin.read()
sys.stdout.buffer.write(metrics.render())
"""


def test_several_processes_are_told_of_by_each(tmp_path):
    environment = {**os.environ, MULTIPROCESS: str(tmp_path)}
    pipe = subprocess.PIPE
    two = [
        subprocess.Popen([sys.executable, "-c", PROCESS, tmp_path], env=environment, stdin=pipe, stdout=pipe)
        for _ in range(2)
    ]
    for one in two:
        assert one.stdout is not None and one.stdout.readline() == b"counted\n"
    text, _ = two[0].communicate(timeout=20)
    assert told(text)["manymatch_requests_total['/api/search', '200', 'GET']"] == 2
    assert told(text)["manymatch_connections_open[]"] == 2
    # Its process has ended, and with it its connections; what it counted is not forgotten.
    gone(tmp_path, two[0].pid)
    text, _ = two[1].communicate(timeout=20)
    assert told(text)["manymatch_requests_total['/api/search', '200', 'GET']"] == 2
    assert told(text)["manymatch_connections_open[]"] == 1
