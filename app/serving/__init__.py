"""One request, from upload to answer. Read `prepare.py`, then `service.py`, then `answer.py`."""
