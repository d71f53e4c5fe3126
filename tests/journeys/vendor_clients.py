"""Clients of other products, run by the Python of `.venv-vendors`: prints what they got, as JSON.

`python vendor_clients.py VENDOR URL KEY PHOTO OTHER_FILE`; an error is the name of its exception.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def raised(function: Callable[[], object]) -> str:
    """The name of the exception that a call raises, and what its client calls the error."""
    try:
        function()
    except Exception as error:  # noqa: BLE001  # its name is what is asked for
        code = getattr(error, "response", {})
        return (
            f"{type(error).__name__} {code['Error']['Code']}"
            if isinstance(code, dict) and code
            else type(error).__name__
        )
    return "nothing"


def rekognition(url: str, key: str, photo: bytes, other: bytes) -> dict[str, Any]:
    """boto3."""
    import boto3
    from botocore.config import Config

    def client(token: str) -> Any:
        return boto3.client(
            "rekognition",
            endpoint_url=f"{url}/compat/rekognition",
            region_name="eu-west-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",  # noqa: S106
            aws_session_token=token,
            config=Config(retries={"total_max_attempts": 1}),
        )

    ours = client(key)
    answer = ours.detect_faces(Image={"Bytes": photo}, Attributes=["ALL"])
    del answer["ResponseMetadata"]
    return {
        "answer": answer,
        "not a photo": raised(lambda: ours.detect_faces(Image={"Bytes": other})),
        "s3": raised(lambda: ours.detect_faces(Image={"S3Object": {"Bucket": "bucket", "Name": "n"}})),
        "no picture": raised(lambda: ours.detect_faces(Image={})),
        "other operation": raised(ours.list_collections),
        "wrong key": raised(lambda: client("lim_wrong").detect_faces(Image={"Bytes": photo})),
    }


def vision(url: str, key: str, photo: bytes, other: bytes) -> dict[str, Any]:
    """google-cloud-vision, over REST."""
    from google.api_core.client_options import ClientOptions
    from google.cloud import vision as google
    from google.protobuf.json_format import MessageToDict

    def client(token: str) -> Any:
        options = ClientOptions(api_endpoint=f"{url}/compat/vision", api_key=token)
        return google.ImageAnnotatorClient(transport="rest", client_options=options)

    ours = client(key)
    faces = {"type_": google.Feature.Type.FACE_DETECTION}
    labels = {"type_": google.Feature.Type.LABEL_DETECTION}
    one = {"image": google.Image(content=photo), "features": [faces]}
    none = {"image": google.Image(content=other), "features": [faces]}
    both = {"image": google.Image(content=photo), "features": [{**faces, "max_results": 1}, labels]}
    answer = ours.batch_annotate_images(requests=[one, none, both])
    return {
        "answer": MessageToDict(answer._pb)["responses"],
        "helper": len(ours.face_detection(image=google.Image(content=photo)).face_annotations),
        "too many": raised(lambda: ours.batch_annotate_images(requests=[one] * 17)),
        "wrong key": raised(lambda: client("lim_wrong").face_detection(image=google.Image(content=photo))),
    }


def compreface(url: str, key: str, photo: bytes, other: bytes) -> dict[str, Any]:
    """compreface-sdk, which raises no exceptions for the service's errors."""
    from compreface import CompreFace

    domain, _, port = url.rpartition(":")

    def client(token: str) -> Any:
        return CompreFace(domain, port).init_face_detection(token)

    ours = client(key)
    options = {"limit": 0, "det_prob_threshold": 0.7, "face_plugins": "landmarks,age", "status": "true"}
    return {
        "answer": ours.detect(photo, options),
        "plain": ours.detect(photo),
        "one": ours.detect(photo, {"limit": 1}),
        "no face": ours.detect(other),
        "not a photo": ours.detect(b"no picture"),
        "wrong key": client("lim_wrong").detect(photo),
    }


if __name__ == "__main__":
    vendor, url, key, *files = sys.argv[1:]
    told = {"rekognition": rekognition, "vision": vision, "compreface": compreface}[vendor](
        url, key, *(Path(file).read_bytes() for file in files)
    )
    print(json.dumps(told))
