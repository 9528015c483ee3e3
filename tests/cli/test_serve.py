"""`manymatch serve`: the address it prints, the port it cannot have, and how it stops."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from manymatch.cli.serve import run
from manymatch.errors import DataError

FAKES = Path(__file__).parents[1] / "web"
SCRIPT = f"""
import sys
sys.path.insert(0, {str(FAKES)!r})
from web_fakes import FakeIndex, FakeItem
from manymatch.cli.serve import run
run(FakeIndex({{"a": FakeItem(["a"])}}), port=0)
print("done")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_at_the_printed_address_and_stops_cleanly(number):
    served = subprocess.Popen(
        [sys.executable, "-u", "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said = served.stdout.readline()
        address = said.split()[2]
        assert address.startswith("http://127.0.0.1:") and "Ctrl-C" in said
        assert httpx.get(f"{address}/health").json() == {"status": "ok"}
        served.send_signal(number)
        out, errors = served.communicate(timeout=20)
    finally:
        served.kill()
    assert (served.returncode, out, errors) == (0, "done\n", "")


def test_a_port_in_use_is_one_line_that_suggests_another():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            DataError, match=rf"cannot listen on 127.0.0.1 port {port} \(.*in use\); try --port \d+"
        ) as said:
            run(None, port=port)
    assert "\n" not in str(said.value)


def test_an_address_of_no_machine_is_an_error():
    with pytest.raises(DataError, match=r"cannot listen on no\.such\.host\.invalid port 0"):
        run(None, "no.such.host.invalid", 0)
