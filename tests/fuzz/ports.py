"""What is fuzzed of HTTP/1's connections. They import half of the server, which those of ``targets.py`` need not."""

from fuzz import http1, http1_doors
from fuzz.targets import Target

TARGETS = {
    "http1": Target(http1.read, http1.verify, http1.exchanges, http1.altered),
    "http1-doors": Target(http1_doors.read, http1_doors.verify, http1_doors.exchanges, http1.altered),
}
