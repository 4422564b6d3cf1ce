"""What a user of a generated Python client does: upload, poll, calibrate. URL and key are given."""

# mypy: ignore-errors
import io
import json
import sys
import time
from pathlib import Path

from client import AuthenticatedClient
from client.api.admin import activate_calibration, create_calibration, get_calibration
from client.api.jobs import get_job
from client.api.upscale import list_upscalers, upscale
from client.models import BodyCreateCalibration, JobState, Problem, UpscaleForm
from client.types import File

url, key, image, archive = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)


def ended(job):
    while job.state in {JobState.QUEUED, JobState.RUNNING}:
        time.sleep(0.05)
        job = get_job.sync(job.id, client=client)
    return job


def upload(name):
    return File(io.BytesIO(Path(name).read_bytes()), Path(name).name)


config = json.dumps({"samples": 4, "default_alpha": 0.3, "degradation": {}})
body = BodyCreateCalibration(archive=upload(archive), config=config)
job = ended(create_calibration.sync(client=client, body=body))
assert job.state == JobState.SUCCEEDED, job
made = get_calibration.sync(job.result.rsplit("/")[-1], client=client)
assert (made.n, made.pipeline.fidelity.metric) == (12, "neighborhood")
activate_calibration.sync(made.id, client=client)
assert list_upscalers.sync(client=client)[0].calibration == made.id

result = upscale.sync(client=client, body=UpscaleForm(image=upload(image), alpha=0.3, seed=1))
assert (result.guarantee.alpha, result.calibration) == (0.3, made.id)
body = UpscaleForm(image=upload(image), alpha=0.3, seed=1)
job = ended(upscale.sync(client=client, body=body, prefer="respond-async"))
assert job.state == JobState.SUCCEEDED, job
refused = upscale.sync(client=client, body=UpscaleForm(image=upload(image), alpha=-1))
assert isinstance(refused, Problem)
assert refused.type_ == "/problems/bad-alpha"
