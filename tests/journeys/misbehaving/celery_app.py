"""`limner.celery_app` that knows `misbehave`, for `celery -A`."""

from limner.celery_app import app as app  # noqa: PLC0414  # Celery looks for it here
from tests.journeys.misbehaving import operation

operation.add()
