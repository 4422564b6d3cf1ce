"""Starts Ray Serve by what `worker export --ray` wrote, asks once and says what it heard."""

import importlib
import json
import os
import sys
import urllib.request

# No report to its makers, no token in the user's folder, and patience on a slow machine.
os.environ |= {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_raylet_start_wait_time_s": "60",
}

import ray
from ray import serve

path, args, port, inputs = json.loads(sys.stdin.read())
module, _, builder = path.partition(":")
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(getattr(importlib.import_module(module), builder)(args), name=args["name"])
model = f"http://127.0.0.1:{port}/v2/models/{args['name']}"
with urllib.request.urlopen(f"{model}/infer", json.dumps({"inputs": inputs}).encode()) as answer:
    sys.stdout.write(answer.read().decode() + "\n")
serve.shutdown()
ray.shutdown()
