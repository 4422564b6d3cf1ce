"""One request, from upload to answer. Read `choose.py`, then `service.py`, then `document.py`."""
