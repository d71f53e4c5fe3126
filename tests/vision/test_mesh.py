"""Face mesh and head pose on a public-domain portrait: reference points, rotation, mirroring and scaling."""

import threading
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from limner.domain.errors import ModelError
from limner.vision.faces import Box, Face, Landmarks, Point
from limner.vision.mesh import FaceMesh, MeshResult
from limner.vision.mesh_symmetry import MIRRORED
from limner.vision.pose import head_pose

Pixels = npt.NDArray[np.uint8]

# The detector's five points on the portrait, in the order of `Landmarks`.
FIVE = np.array([[200.1, 101.8], [247.1, 102.6], [220.4, 124.5], [198.6, 142.8], [239.7, 143.6]])

# Reference positions of mesh points on the portrait, measured once and checked by eye.
GOLDEN = {
    1: (223.1, 131.3),
    10: (227.5, 68.5),
    33: (195.5, 100.8),
    152: (220.5, 177.6),
    263: (255.4, 104.2),
    61: (201.0, 138.8),
    291: (246.5, 141.6),
    468: (203.8, 101.2),
    473: (246.6, 103.5),
}
EYES_APART = 60.0  # px between the outer corners: the unit of the tolerances


def face(points: npt.NDArray[np.float64] = FIVE) -> Face:
    return Face(Box(178.2, 62.9, 89.9, 113.3), 0.93, Landmarks(*(Point(float(x), float(y)) for x, y in points)))


@pytest.fixture(scope="module")
def mesh(models_dir: Path) -> FaceMesh:
    return FaceMesh(models_dir)


@pytest.fixture(scope="module")
def fitted(mesh: FaceMesh, astronaut: Pixels) -> MeshResult:
    return mesh.fit(astronaut, [face()])[0]


def test_points_match_the_reference(fitted: MeshResult) -> None:
    assert fitted.points.shape == (478, 3)
    assert fitted.points.dtype == np.float32
    assert fitted.presence > 0.99
    for index, place in GOLDEN.items():
        assert fitted.points[index, :2] == pytest.approx(place, abs=1.5), index


def test_irises_are_centre_right_upper_left_lower(fitted: MeshResult) -> None:
    for centre in (468, 473):
        right, upper, left, lower = fitted.points[centre + 1 : centre + 5, :2] - fitted.points[centre, :2]
        assert right[0] > 2 > -2 > left[0]
        assert lower[1] > 2 > -2 > upper[1]


def test_depends_little_on_the_detectors_points(mesh: FaceMesh, astronaut: Pixels, fitted: MeshResult) -> None:
    noise = np.random.default_rng(1)
    faces = [face(FIVE + noise.normal(0, 3.0, FIVE.shape)) for _ in range(4)]
    for result in mesh.fit(astronaut, faces):
        assert np.abs(result.points[:, :2] - fitted.points[:, :2]).mean() < 0.03 * EYES_APART


def test_a_symmetric_mesh_mirrors_with_the_picture(mesh: FaceMesh, astronaut: Pixels) -> None:
    across = np.array([512 - FIVE[:, 0], FIVE[:, 1]]).T[[1, 0, 2, 4, 3]]
    (one,) = mesh.fit(astronaut, [face()], symmetric=True)
    (other,) = mesh.fit(np.ascontiguousarray(astronaut[:, ::-1]), [face(across)], symmetric=True)
    back = other.points[:468, :2][MIRRORED] * (-1, 1) + (512, 0)
    assert np.abs(back - one.points[:468, :2]).mean() < 0.01 * EYES_APART
    assert one.presence == pytest.approx(other.presence, abs=0.01)


def test_mirror_images_come_in_pairs() -> None:
    assert np.array_equal(MIRRORED[MIRRORED], np.arange(468))
    for left, right in ((33, 263), (61, 291), (234, 454), (105, 334)):
        assert MIRRORED[left] == right
    assert (MIRRORED[[1, 10, 152, 168]] == [1, 10, 152, 168]).all()


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotates_with_the_picture(mesh: FaceMesh, astronaut: Pixels, fitted: MeshResult, turns: int) -> None:
    def turned(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        for _ in range(turns):
            points = np.stack([points[:, 1], 512 - points[:, 0]], axis=1)
        return points

    (result,) = mesh.fit(np.ascontiguousarray(np.rot90(astronaut, turns)), [face(turned(FIVE))])
    assert np.abs(result.points[:, :2] - turned(fitted.points[:, :2].astype(float))).mean() < 0.02 * EYES_APART
    before, after = head_pose(fitted.points), head_pose(result.points)
    assert (after.roll - before.roll + 90 * turns + 180) % 360 - 180 == pytest.approx(0, abs=3)
    assert after.yaw == pytest.approx(before.yaw, abs=3)
    assert after.pitch == pytest.approx(before.pitch, abs=3)


def test_a_large_face_gives_the_same_mesh(mesh: FaceMesh, astronaut: Pixels, fitted: MeshResult) -> None:
    large = np.asarray(cv2.resize(astronaut, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC), np.uint8)
    (result,) = mesh.fit(large, [face(FIVE * 5)])
    assert np.abs(result.points / 5 - fitted.points).mean() < 0.02 * EYES_APART


def test_the_mesh_of_a_cut_face_continues_outside(mesh: FaceMesh, astronaut: Pixels) -> None:
    part = np.ascontiguousarray(astronaut[:, 205:])
    (result,) = mesh.fit(part, [face(FIVE - np.array([205.0, 0]))])
    assert np.isfinite(result.points).all()
    assert result.points[234, 0] < 0


def test_presence_is_low_without_a_face(mesh: FaceMesh, astronaut: Pixels) -> None:
    elsewhere = face(FIVE + np.array([150.0, 250.0]))
    assert mesh.fit(astronaut, [elsewhere])[0].presence < 0.2
    certain, doubtful = mesh.presence(astronaut, [face(), elsewhere])
    assert certain > 0.99
    assert doubtful < 0.2


def test_degenerate_points_give_finite_results(mesh: FaceMesh, astronaut: Pixels) -> None:
    (result,) = mesh.fit(astronaut, [face(np.full((5, 2), 50.0))])
    assert np.isfinite(result.points).all()


def test_threads_can_share_it(models_dir: Path, astronaut: Pixels, fitted: MeshResult) -> None:
    shared = FaceMesh(models_dir)
    results: list[MeshResult] = []
    threads = [threading.Thread(target=lambda: results.extend(shared.fit(astronaut, [face()] * 2))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.array_equal(result.points, fitted.points) for result in results)


def test_no_faces_give_no_meshes(mesh: FaceMesh, astronaut: Pixels) -> None:
    assert mesh.fit(astronaut, []) == []


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        FaceMesh(tmp_path)


def test_pose_of_rotated_points(fitted: MeshResult) -> None:
    start = head_pose(fitted.points)
    assert abs(start.yaw) < 5
    for yaw in (-30.0, 20.0, 45.0):
        angle = np.radians(yaw)
        # About the vertical axis: the right side of the face (x > 0) moves away (z > 0), so it looks to the right.
        turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
        turned = fitted.points.astype(np.float64) @ turn.T
        assert head_pose(turned.astype(np.float32)).yaw == pytest.approx(start.yaw + yaw, abs=1.5)
    for pitch in (-30.0, 25.0):
        angle = np.radians(pitch)
        # About the horizontal axis: the chin moves nearer, so it looks up.
        turn = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
        turned = fitted.points.astype(np.float64) @ turn.T
        assert head_pose(turned.astype(np.float32)).pitch == pytest.approx(start.pitch + pitch, abs=1.5)


def test_pose_of_the_mirrored_portrait(mesh: FaceMesh, astronaut: Pixels, fitted: MeshResult) -> None:
    mirrored = FIVE[[1, 0, 2, 4, 3]] * np.array([-1.0, 1.0]) + np.array([512.0, 0.0])
    (result,) = mesh.fit(np.ascontiguousarray(astronaut[:, ::-1]), [face(mirrored)])
    before, after = head_pose(fitted.points), head_pose(result.points)
    assert after.yaw == pytest.approx(-before.yaw, abs=4)
    assert after.roll == pytest.approx(-before.roll, abs=4)
    assert after.pitch == pytest.approx(before.pitch, abs=5)
