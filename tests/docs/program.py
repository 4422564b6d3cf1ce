"""The program and Python, loaded once and forked for every command: a start takes milliseconds.

`python -m tests.docs.program SOCKET` listens; a client sends its arguments, folder, environment and
standard streams, and is told the exit code. Upscalers need no model.
"""

import functools
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import traceback
from pathlib import Path

import trustscale_server.cli.in_process
from harness.fakes import FakeUpscaler
from trustscale_server.bootstrap.assembly import open_parts
from trustscale_server.cli.main import main
from trustscale_server.images.sandbox import client as sandbox

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    asked = {{"arguments": [{name!r}, *sys.argv[1:]], "folder": os.getcwd()}}
    asked["env"] = dict(os.environ)
    socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
    server.shutdown(socket.SHUT_WR)
    sys.exit(int(server.recv(16) or b"70"))
"""


def write_client(folder, name, path):
    """A command of this name that asks the server behind a socket."""
    client = folder / name
    client.write_text(CLIENT.format(python=sys.executable, path=str(path), name=name))
    client.chmod(0o755)


def _built(config, _):
    return FakeUpscaler(config.name, scale=1 if config.name == "restore" else 2, kind=config.kind)


def _serve(client):
    data, streams, _, _ = socket.recv_fds(client, 1 << 20, 3)
    asked = json.loads(data)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    sandbox._decoders._owner = os.getpid()  # all share those of the server
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["env"])
    try:
        if asked["arguments"][0] == "python":
            exec(compile(sys.stdin.read(), "<block>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = asked["arguments"]
            trustscale_server.cli.in_process.open_parts = functools.partial(
                open_parts, build=_built
            )
            main()
    except Exception:  # noqa: BLE001 - whatever the program raises is its end
        traceback.print_exc()
        return 70
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def listen(path):
    sandbox.start_decoders()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{path}.new")
        server.listen(16)
        Path(f"{path}.new").rename(path)  # whoever sees it can connect
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                code = 70
                try:
                    code = _serve(client)
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    client.sendall(str(code).encode())
                    os._exit(0)
            client.close()


if __name__ == "__main__":
    # What commands would import where they need it, each anew.
    modules = pkgutil.walk_packages(trustscale_server.__path__, "trustscale_server.")
    for name in ("docket", *(module.name for module in modules)):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    listen(sys.argv[1])
