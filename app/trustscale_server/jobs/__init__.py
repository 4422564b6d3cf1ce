"""Jobs: long work that outlives its request, and the process that does it.

The store is the truth
    `JobStore` has the requests, the states and the ends. docket, the queue, carries ids and decides
    who runs a job now; losing all its messages loses nothing, because every worker sends all
    unfinished jobs again, at its start and then twice per lease (`queue.py`).

A task is started, and ends
    A task is a whole job, or one pair of a calibration. The worker that starts it leaves its name
    in the store; any end removes all names: a result, an error, or requeueing (`tasks.py`).

Workers die
    The lease of a dead worker runs out, and another starts its tasks again; doing them twice stores
    the same. The name of a dead worker at a task counts as a death. **Two deaths, and the task runs
    alone in its process; four more, alone, and it is poison: its job fails and names it.** So
    innocent tasks beside it survive.

What is missing is waited for
    A task whose upscaler is unavailable, or whose result cannot be stored, is requeued with backoff
    and frees its slot; its job fails after ten minutes without any progress.
"""
