"""Jobs: long work that outlives the request that asked for it, and the process that does it.

The whole layer on one page:

The store is the truth
    `JobStore` keeps what was asked, what is done and how it ended. docket, the queue, carries ids
    and answers "who does it now"; losing all its messages loses nothing, because every worker sends
    all unfinished jobs again, at its start and then twice per lease (`queue.py`).

A task is started, and ends
    A task is a whole job, or one pair of a calibration. Whoever starts it leaves its name in the
    store, and any end removes all names: a result, an error, or giving it back (`runner.py`).

Workers die
    The lease of a dead worker runs out, and another starts its tasks again. Everything that is
    stored is the same when it is done twice. A name that is found at a task, of a worker that does
    not live, is a death. **Two deaths, and the task runs alone in its process; four more, alone,
    and it is poison: its job fails and names it.** So what was beside it goes on.

What is missing is waited for
    A task whose upscaler is away, or whose result cannot be stored, goes back to the queue and
    leaves its slot to others; it is tried less and less often, and its job fails once the thing was
    away for `job_patience_s` without any progress.

Parts
    A job of many parts (`FanOut`) has its tasks sent by a coordinator, a bounded number at a time,
    and put together at the end. Whatever runs is watched: for cancellation, for an end that another
    worker has made, for the end of this worker (`supervision.py`).
"""
