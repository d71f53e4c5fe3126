"""The models of this process, each loaded when it is first asked for."""

import threading
from functools import cached_property
from pathlib import Path

import cv2

from limner.vision.content import ContentScore
from limner.vision.detector import Detector
from limner.vision.mesh import FaceMesh
from limner.vision.person import PersonMask


class Models:
    """Models from the weights in `folder`; safe to share between threads. ModelError where a file is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The workers are the threads: OpenCV's own would cost a third more CPU for little time.
        cv2.setNumThreads(1)
        self._lock = threading.Lock()

    def detector(self) -> Detector:
        """The face detector."""
        with self._lock:
            return self._detector

    @cached_property
    def _detector(self) -> Detector:
        return Detector(self.folder)

    def mesh(self) -> FaceMesh:
        """The face mesh."""
        with self._lock:
            return self._mesh

    @cached_property
    def _mesh(self) -> FaceMesh:
        return FaceMesh(self.folder)

    def person(self) -> PersonMask:
        """The mask of people."""
        with self._lock:
            return self._person

    @cached_property
    def _person(self) -> PersonMask:
        return PersonMask(self.folder)

    def content(self) -> ContentScore:
        """The score of the content filter."""
        with self._lock:
            return self._content

    @cached_property
    def _content(self) -> ContentScore:
        return ContentScore(self.folder)
