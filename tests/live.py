"""An application on a real server, in a thread of this process."""

import socket
import threading
from contextlib import contextmanager

import uvicorn

from harness.waiting import PATIENCE_S, block_until
from trustscale_server.http.server import server_config


@contextmanager
def serving(app, drain_s=30):
    """A real uvicorn on a free loopback port; yields host:port.

    What is not answered `drain_s` after the end is cut off: only a test that has failed leaves it.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = server_config(
            app,
            log_level="critical",
            # Longer than clients keep idle connections, or one might use what is being closed.
            timeout_keep_alive=600,
            timeout_graceful_shutdown=drain_s,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            block_until(lambda: server.started or not thread.is_alive())
            assert server.started
            yield f"127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(drain_s + PATIENCE_S)
            assert not thread.is_alive(), "the application does not end"
