"""Uses the client that openapi-python-client has generated; prints what it got. Arguments: URL, JPEG file."""

import base64
import io
import json
import sys
from pathlib import Path

from limner_client import Client
from limner_client.api.events import stream_events
from limner_client.api.jobs import erase_job, get_artifact, get_job, list_jobs
from limner_client.api.operations import detect, pipeline
from limner_client.models import (
    DetectForm,
    DetectFormMark,
    DetectJob,
    DetectJson,
    DetectResult,
    DetectStep,
    GenerateStep,
    PipelineJson,
    ProblemShape,
)
from limner_client.types import File

URL, PHOTO = sys.argv[1], Path(sys.argv[2]).read_bytes()
WAIT = "wait=60"
client = Client(base_url=URL, timeout=120)
text = base64.b64encode(PHOTO).decode()
assert stream_events  # an endless stream is not for this client, but the module is imported

form = detect.sync(
    client=client, body=DetectForm(image=File(io.BytesIO(PHOTO), "a.jpg"), mark=DetectFormMark.BLUR), prefer=WAIT
)
assert isinstance(form, DetectJob)
assert isinstance(form.result, DetectResult)
raw = detect.sync(client=client, body=File(io.BytesIO(PHOTO)), prefer=WAIT)
assert isinstance(raw, DetectJob)
in_json = detect.sync(client=client, body=DetectJson(image=text, max_faces=1), prefer=WAIT)
assert isinstance(in_json, DetectJob)
assert isinstance(in_json.result, DetectResult)
steps = pipeline.sync(
    client=client,
    body=PipelineJson(image=text, steps=[DetectStep(operation="detect"), GenerateStep(operation="generate")]),
    prefer=WAIT,
)
again = get_job.sync(form.id, client=client)
assert isinstance(again, DetectJob)
marked = get_artifact.sync(form.id, form.artifacts[0].name, client=client)
assert isinstance(marked, File)
listed = list_jobs.sync(client=client, limit=1)
refused = detect.sync(client=client, body=File(io.BytesIO(b"no picture")))
assert isinstance(refused, ProblemShape)
erase_job.sync_detailed(form.id, client=client)
gone = get_job.sync(form.id, client=client)
print(
    json.dumps(
        {
            "left_eye": in_json.result.faces[0].landmarks.left_eye.x,
            "raw": raw.status,
            "pipeline": steps.to_dict()["status"],
            "bytes": len(marked.payload.read()),
            "listed": len(listed.to_dict()["jobs"]),
            "refused": refused.type_,
            "gone": gone.status,
        }
    )
)
