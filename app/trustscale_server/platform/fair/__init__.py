"""Who may work now, fairly by clients.

Work and memory are bounded: a few requests generate, some wait, the rest is refused. A request's
memory is known beforehand (`serving/footprint.py`), so it asks for a slot with that many bytes, and
all slots together never exceed the budget (`AdmissionController`, by `SlotRules`). Uploads share
rooms that nobody waits for (`Room`). Threads take places and bytes in turns (`WeightedSemaphore`).
Clients share each of them (`current_client`), so that one cannot keep the others out.

Coroutines wait for slots, threads for places and bytes, both in a `FairQueue`; the queues differ in
who is next. `Ledger` is the account of what each client has had, and `Pace` the estimate of how
long work takes.
"""

from trustscale_server.platform.fair.admission import AdmissionController
from trustscale_server.platform.fair.ledger import Ledger
from trustscale_server.platform.fair.queue import current_client
from trustscale_server.platform.fair.room import HeldShare, Room
from trustscale_server.platform.fair.semaphore import WeightedSemaphore

__all__ = [
    "AdmissionController",
    "HeldShare",
    "Ledger",
    "Room",
    "WeightedSemaphore",
    "current_client",
]
