"""Names of faces in XMP sidecars beside photographs: written, and read from other programs'.

A sidecar of a/b.jpg is a/b.jpg.xmp (digiKam, immich, darktable) or a/b.xmp (Lightroom, where it
reads none of the other form). It holds face regions of the Metadata Working Group
(mwg-rs:Regions): name and box, in shares of the picture as it is stored in the file, which its
orientation tag may turn. A photograph's own file is never written.
"""

import contextlib
import math
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from faces.cropping import overlap
from faces.photographs import quiet_pillow, stored_size
from gallery.store import clean_name
from runtime import files
from runtime.errors import UserError, one_line

ENDING = ".xmp"
OURS = "DCBH face search"  # x:xmptk of sidecars that this program has written
MOST_BYTES = 10 ** 7
SAME_FACE = 0.25  # of the union of a region and a face: other programs draw other boxes
X, RDF = "{adobe:ns:meta/}", "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
MWG = "{http://www.metadataworkinggroup.com/schemas/regions/}"
AREA, DIMENSIONS = "{http://ns.adobe.com/xmp/sType/Area#}", (
    "{http://ns.adobe.com/xap/1.0/sType/Dimensions#}")
# Where a point of the stored picture, in shares of its sides, goes once it is turned upright.
UPRIGHT = {1: lambda x, y: (x, y), 2: lambda x, y: (1 - x, y), 3: lambda x, y: (1 - x, 1 - y),
           4: lambda x, y: (x, 1 - y), 5: lambda x, y: (y, x), 6: lambda x, y: (1 - y, x),
           7: lambda x, y: (1 - y, 1 - x), 8: lambda x, y: (y, 1 - x)}
BACK = {6: 8, 8: 6}  # orientations whose opposite is another one
PREFIXES = {"x": X, "rdf": RDF, "mwg-rs": MWG, "stArea": AREA, "stDim": DIMENSIONS}


class Region(NamedTuple):
    """A named face in a sidecar: box is (left, top, right, bottom) in pixels, upright."""

    name: str
    box: tuple


class Stored(NamedTuple):
    """How a photograph's picture is stored: (width, height), and its EXIF orientation, 1..8."""

    size: tuple
    orientation: int


def export(gallery):
    """Writes the named faces of a gallery's photographs to sidecars beside these.

    Sidecars of other programs stay as they are. One of ours goes where no name is left.

    Returns:
        (counts, failed): Counter of what was done; lines that say which sidecars were not written.
    """
    counts, failed = Counter(written=0, unchanged=0), []
    for photograph, faces in gallery.named_faces():
        regions = [Region(*face) for face in faces]
        sidecar = Path(photograph.path + ENDING)
        try:
            with files.writing(sidecar):
                what = _write(photograph, sidecar, regions)
        except UserError as error:
            failed.append(one_line(error))
            continue
        if what:
            counts[what] += 1
    return counts, failed


def _write(photograph, sidecar, regions):
    """Writes one sidecar, or removes it where there is no region; returns what was done."""
    old = None
    if os.path.lexists(sidecar):
        with files.open_regular(sidecar) as stream:
            old = stream.read(MOST_BYTES)
        if not _is_ours(old):
            return "left to other programs" if regions else None
    if not regions:
        if old is not None:
            sidecar.unlink()
            return "removed, without a name now"
        return None
    status = os.stat(photograph.path)
    if (status.st_size, status.st_mtime_ns) != (photograph.size, photograph.time):
        raise UserError(f"{photograph.path} has changed since it was indexed; first: python "
                        "search.py add")
    new = to_xml(regions, stored(photograph.path))
    if new == old:
        return "unchanged"
    with files.replacing(sidecar) as temporary:
        temporary.write_bytes(new)
    return "written"


def _is_ours(data):
    """Whether a sidecar is as this program writes it, and holds nothing of another's."""
    try:
        root = parse(data)
    except ValueError:
        return False
    about = root.find(f"{RDF}RDF/{RDF}Description")
    return root.get(X + "xmptk") == OURS and about is not None and (
        about.keys() == [RDF + "about"] and [child.tag for child in about] == [MWG + "Regions"])


def stored(path):
    """The Stored of a photograph's file."""
    with quiet_pillow():
        return Stored(*stored_size(path))


# XML


def to_xml(regions, picture):
    """A sidecar, bytes, of at least one Region of a Stored picture."""
    for prefix, name in PREFIXES.items():
        ElementTree.register_namespace(prefix, name[1:-1])
    root = ElementTree.Element(X + "xmpmeta", {X + "xmptk": OURS})
    about = ElementTree.SubElement(ElementTree.SubElement(root, RDF + "RDF"), RDF + "Description",
                                   {RDF + "about": ""})
    resource = {RDF + "parseType": "Resource"}
    element = ElementTree.SubElement(about, MWG + "Regions", resource)
    width, height = picture.size
    ElementTree.SubElement(element, MWG + "AppliedToDimensions", {
        DIMENSIONS + "w": str(width), DIMENSIONS + "h": str(height), DIMENSIONS + "unit": "pixel"})
    bag = ElementTree.SubElement(ElementTree.SubElement(element, MWG + "RegionList"), RDF + "Bag")
    for region in regions:
        left, top, right, bottom = _stored_box(region.box, picture)
        item = ElementTree.SubElement(ElementTree.SubElement(bag, RDF + "li"), RDF + "Description",
                                      {MWG + "Name": region.name, MWG + "Type": "Face"})
        values = {"x": (left + right) / 2, "y": (top + bottom) / 2, "w": right - left,
                  "h": bottom - top}
        ElementTree.SubElement(item, MWG + "Area", {
            AREA + "unit": "normalized",
            **{AREA + name: f"{value:.6f}" for name, value in values.items()}})
    return (b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
            + ElementTree.tostring(root) + b'\n<?xpacket end="w"?>\n')


def parse(data):
    """The root of a sidecar's XML, bytes. Raises ValueError for what is none, or a bomb."""
    import_defusedxml()
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        return fromstring(data, forbid_dtd=True)
    except ParseError as error:
        raise ValueError(f"is not XML ({error})")
    except DefusedXmlException as error:
        raise ValueError(f"defines entities or a document type ({type(error).__name__})")
    except (LookupError, RecursionError, UnicodeError) as error:
        raise ValueError(f"cannot be read as XML ({error})")


def import_defusedxml():
    """Raises UserError where defusedxml is not installed."""
    try:
        import defusedxml  # noqa: F401
    except ImportError:
        raise UserError("XMP sidecars need defusedxml, which is not installed; run: pip install "
                        "defusedxml==0.7.1")


def regions_of(data, picture):
    """The Regions of a sidecar (bytes) of a Stored picture. Raises ValueError, see parse."""
    root = parse(data)
    found = []
    for element in root.iter(MWG + "Regions"):
        sizes = [_number(_value(_child(element, MWG + "AppliedToDimensions"), DIMENSIONS + name))
                 for name in "wh"]
        for item in element.iter(RDF + "li"):
            name = clean_name(_value(item, MWG + "Name") or "")
            kind = (_value(item, MWG + "Type") or "Face").strip()
            area = _child(item, MWG + "Area")
            x, y, width, height = (_number(_value(area, AREA + part)) for part in "xywh")
            if (_value(area, AREA + "unit") or "").strip() == "pixel" and all(sizes):
                x, width = x / sizes[0], width / sizes[0]
                y, height = y / sizes[1], height / sizes[1]
            box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            # Programs that make no use of a region leave it without a name, or of another kind.
            if name and kind == "Face" and width > 0 and height > 0 and all(
                    -1 <= edge <= 2 for edge in box):
                found.append(Region(name, _upright_box(box, picture, sizes)))
    return found


def _places(element):
    """Where an element's properties are; nowhere for None."""
    return [] if element is None else [element, *element.findall(RDF + "Description")]


def _child(element, name):
    """An element's property that is a structure; None if it has none."""
    found = (place.find(name) for place in _places(element))
    return next((child for child in found if child is not None), None)


def _value(element, name):
    """An element's property as text, an attribute or an element; None if it has none."""
    for place in _places(element):
        child = place.find(name)
        if name in place.keys() or child is not None:
            return place.get(name, None if child is None else child.text)
    return None


def _number(text):
    """A text as a finite number; NaN for anything else, which no comparison is true of."""
    with contextlib.suppress(TypeError, ValueError):
        if math.isfinite(float(text)):
            return float(text)
    return math.nan


# Boxes


def _stored_box(box, picture):
    """A box in pixels of the upright photograph as shares of the stored picture."""
    shares = [edge / side for edge, side in zip(box, _upright_size(picture) * 2)]
    return _turned(shares, BACK.get(picture.orientation, picture.orientation))


def _upright_box(shares, picture, sizes):
    """A box in shares of the stored picture in pixels of the upright photograph.

    Args:
        shares: (left, top, right, bottom).
        picture: Stored.
        sizes: width and height that the regions apply to, or NaN. Some programs mean the upright
            photograph: of one on its side, these tell.
    """
    width, height = _upright_size(picture)
    if not (picture.orientation >= 5 and (sizes[0] - sizes[1]) * (width - height) > 0):
        shares = _turned(shares, picture.orientation)
    return tuple(edge * side for edge, side in zip(shares, (width, height) * 2))


def _upright_size(picture):
    return picture.size[::-1] if picture.orientation >= 5 else picture.size


def _turned(box, orientation):
    """A box (left, top, right, bottom) in shares, turned as an orientation says."""
    (left, right), (top, bottom) = map(sorted, zip(
        UPRIGHT[orientation](*box[:2]), UPRIGHT[orientation](*box[2:])))
    return left, top, right, bottom


# Reading


def read_names(writer, report):
    """Names faces as the sidecars of their photographs say.

    What somebody has said in this gallery stays: names by hand, and who a face is not. The report
    gets a line for each sidecar that cannot be read.

    Raises:
        UserError: defusedxml is not installed.
    """
    import_defusedxml()
    without_face = []
    for photograph in writer.read_photographs():
        for sidecar in (photograph.path + ENDING, os.path.splitext(photograph.path)[0] + ENDING):
            if os.path.lexists(sidecar):
                try:
                    regions = _read(sidecar, photograph.path)
                except (ValueError, UserError) as error:
                    report.notes.append(f"{one_line(sidecar)} {one_line(error, 200)}; left out")
                    continue
                named = _name(writer, photograph, regions)
                report.counts["named by sidecars"] += named
                if named < len(regions):
                    without_face.append(sidecar)
                break
    report.note_examples("sidecars with names that no face got: none was found there, or it has a "
                         "name already", without_face)


def _read(sidecar, path):
    """The Regions of a photograph's sidecar. Raises ValueError or UserError if it is none."""
    with files.open_regular(sidecar) as stream, files.reading(sidecar):
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"has more than {MOST_BYTES // 10 ** 6} MB")
    return regions_of(data, stored(path))


def _name(writer, photograph, regions):
    """Gives faces of a photograph the names of Regions; returns how many have them now."""
    faces = writer.rows("SELECT id, by_hand, box_left, box_top, box_right, box_bottom FROM faces "
                        "WHERE photograph = ?", photograph.id)
    pairs = sorted(((overlap(face[2:], region.box), face[:2], region)
                    for face in faces for region in regions), key=lambda pair: -pair[0])
    used, named = set(), 0
    for share, (face, by_hand), region in pairs:
        if share < SAME_FACE or face in used or region.name in used:
            continue
        used |= {face, region.name}
        if by_hand:
            named += writer.rows("SELECT count(*) FROM faces JOIN people ON people.id = person "
                                 "WHERE faces.id = ? AND name = ?", face, region.name)[0][0]
        else:
            named += writer.name_if_free(face, writer.named(region.name))
    return named
