"""XMP sidecars: names that other programs have written, ours, and files that are neither."""

import os
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from face_pictures import STORED, orl_face, save, scene
from PIL import Image

import search
from gallery import indexing, people, sidecars
from gallery.sidecars import Region, Stored, regions_of, to_xml
from gallery.store import Gallery
from runtime.errors import Failed, UserError

pytest.importorskip("defusedxml")

START = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="{tool}">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"
    xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
    xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"
    xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#">"""
END = """</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
# Properties as attributes; a structure for each region.
DIGIKAM = START.format(tool="XMP Core 4.4.0-Exiv2") + """
 <mwg-rs:Regions rdf:parseType="Resource">
  <mwg-rs:AppliedToDimensions stDim:w="400" stDim:h="300" stDim:unit="pixel"/>
  <mwg-rs:RegionList><rdf:Bag>
   <rdf:li><rdf:Description mwg-rs:Name="Ann Lee" mwg-rs:Type="Face">
    <mwg-rs:Area stArea:x="0.165" stArea:y="0.3867" stArea:w="0.23" stArea:h="0.3733"
      stArea:unit="normalized"/></rdf:Description></rdf:li>
   <rdf:li><rdf:Description mwg-rs:Name="Rex" mwg-rs:Type="Pet">
    <mwg-rs:Area stArea:x="0.7" stArea:y="0.4" stArea:w="0.2" stArea:h="0.3"/>
    </rdf:Description></rdf:li>
   <rdf:li><rdf:Description mwg-rs:Type="Face">
    <mwg-rs:Area stArea:x="0.7" stArea:y="0.4" stArea:w="0.2" stArea:h="0.3"/>
    </rdf:Description></rdf:li>
  </rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>""" + END
# Properties as elements, without a structure around those of a region.
LIGHTROOM = START.format(tool="Adobe XMP Core 5.6-c140") + """
 <mwg-rs:Regions rdf:parseType="Resource">
  <mwg-rs:AppliedToDimensions rdf:parseType="Resource"><stDim:w>400</stDim:w><stDim:h>300</stDim:h>
   <stDim:unit>pixel</stDim:unit></mwg-rs:AppliedToDimensions>
  <mwg-rs:RegionList><rdf:Bag><rdf:li rdf:parseType="Resource">
   <mwg-rs:Area rdf:parseType="Resource"><stArea:x>0.165</stArea:x><stArea:y>0.3867</stArea:y>
    <stArea:w>0.23</stArea:w><stArea:h>0.3733</stArea:h></mwg-rs:Area>
   <mwg-rs:Name>Ann Lee</mwg-rs:Name><mwg-rs:Type>Face</mwg-rs:Type>
  </rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>""" + END
# Through ExifTool, as immich writes: structures with descriptions throughout.
IMMICH = START.format(tool="Image::ExifTool 12.76") + """
 <mwg-rs:Regions rdf:parseType='Resource'>
  <mwg-rs:AppliedToDimensions><rdf:Description><stDim:h>300</stDim:h><stDim:w>400</stDim:w>
   </rdf:Description></mwg-rs:AppliedToDimensions>
  <mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description>
   <mwg-rs:Area><rdf:Description stArea:h="112" stArea:unit="pixel" stArea:w="92" stArea:x="66"
     stArea:y="116"/></mwg-rs:Area><mwg-rs:Name>Ann Lee</mwg-rs:Name>
   </rdf:Description></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>""" + END
BOX = (20, 60, 112, 172)  # of the face in all of them, of 400x300 pixels
UPRIGHT = Stored((400, 300), 1)


@pytest.mark.parametrize("text", (DIGIKAM, LIGHTROOM, IMMICH))
def test_other_programs_regions(text):
    for data in (text.encode(), text.encode("utf-16")):
        (name, box), = regions_of(data, UPRIGHT)
        assert name == "Ann Lee" and box == pytest.approx(BOX, abs=0.1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_are_of_the_picture_as_it_is_stored(orientation):
    upright = np.zeros((300, 400), np.uint8)
    left, top, right, bottom = BOX
    upright[top:bottom, left:right] = 255
    kept = Image.fromarray(upright)
    if orientation > 1:
        kept = kept.transpose(STORED[orientation])
    regions = [Region("Ann & <Bob> \u738b", BOX)]
    data = to_xml(regions, Stored(kept.size, orientation))
    root = ElementTree.fromstring(data)
    area = next(root.iter(sidecars.MWG + "Area"))
    x, y, width, height = (float(area.get(sidecars.AREA + name)) for name in "xywh")
    rows, columns = np.nonzero(np.asarray(kept))
    assert (x, y) == pytest.approx(((columns.min() + columns.max() + 1) / 2 / kept.width,
                                    (rows.min() + rows.max() + 1) / 2 / kept.height), abs=1e-5)
    assert (width, height) == pytest.approx((np.ptp(columns + 1) / kept.width + 1 / kept.width,
                                             np.ptp(rows + 1) / kept.height + 1 / kept.height),
                                            abs=1e-5)
    (name, box), = regions_of(data, Stored(kept.size, orientation))
    assert name == regions[0].name and box == pytest.approx(BOX, abs=0.01)
    if orientation >= 5:  # a program that means the upright photograph
        (name, box), = regions_of(DIGIKAM.encode(), Stored(kept.size, orientation))
        assert box == pytest.approx(BOX, abs=0.1)


BOMB = ('<!DOCTYPE a [<!ENTITY b "ha">' + "".join(
    f'<!ENTITY b{n} "{f"&b{n - 1};" * 10 if n else "&b;" * 10}">' for n in range(9))
    + "]><a>&b8;</a>").encode()
BAD = [b"", b"no XML", b"\xff\xd8\xff\xe0", BOMB, DIGIKAM[:-40].encode(),
       b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
       b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><a/>',
       b'<?xml version="1.0" encoding="no-such"?><a/>', b"<a>" * 10 ** 5, b"\0" * 1000]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_is_no_sidecar(number):
    with pytest.raises(ValueError):
        regions_of(BAD[number], UPRIGHT)


def test_values_that_are_none():
    for old, new in (('"0.165"', '"nan"'), ('"0.165"', '"1e999"'), ('"0.23"', '"-1"'),
                     ('"0.165"', '"9"'), ('"Ann Lee"', '" "'), ("stArea:x=", "stArea:q=")):
        assert regions_of(DIGIKAM.replace(old, new).encode(), UPRIGHT) == [], new
    assert regions_of(b"<a/>", UPRIGHT) == []
    assert len(regions_of(DIGIKAM.replace('"400"', '"x"').encode(), UPRIGHT)) == 1


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    for name, shown in (("a.jpg", [(1, 1), (2, 1)]), ("b.jpg", [(4, 1)]), ("c.jpg", [(3, 1)])):
        save(scene([(orl_face(person, number), (20 + 200 * place, 60)) for place, (person, number)
                    in enumerate(shown)]), folder / name, quality=95)
    return folder


def index(tmp_path, **options):
    report = indexing.index_photographs(tmp_path / "gallery", [str(tmp_path / "album")],
                                        people="none", data_dir=tmp_path, **options)
    return report, names(tmp_path)


def names(tmp_path):
    with Gallery.open(tmp_path / "gallery") as gallery:
        return {(os.path.basename(face.photograph), face.number): face.name
                for face in gallery.faces(gallery.ids)}


def test_names_are_read_written_and_read_again(tmp_path, album):
    (album / "a.jpg.xmp").write_text(DIGIKAM)
    (album / "b.xmp").write_text(LIGHTROOM.replace("Ann Lee", "Bob"))
    (album / "c.jpg.xmp").write_bytes(BOMB)
    photographs = {path: path.read_bytes() for path in album.glob("*.jpg")}
    report, found = index(tmp_path, read_xmp=True)
    assert report.counts["named by sidecars"] == 2
    assert sum(note.startswith(str(album / "c.jpg.xmp")) for note in report.notes) == 1
    assert sorted(map(str, found.values())) == ["Ann Lee", "Bob", "None", "None"]
    assert found["b.jpg", 0] == "Bob" and found["c.jpg", 0] is None
    # Ours go beside the photographs, and over nobody else's.
    search.main(["export", str(tmp_path / "gallery"), "--xmp"])
    assert (album / "a.jpg.xmp").read_text() == DIGIKAM
    assert sorted(path.name for path in album.iterdir()) == [
        "a.jpg", "a.jpg.xmp", "b.jpg", "b.jpg.xmp", "b.xmp", "c.jpg", "c.jpg.xmp"]
    assert {path: path.read_bytes() for path in album.glob("*.jpg")} == photographs
    first = (album / "b.jpg.xmp").read_bytes()
    people.rename(tmp_path / "gallery", "Bob", "Zo\u00eb")
    with Gallery.open(tmp_path / "gallery") as gallery:
        counts, failed = sidecars.export(gallery)
        assert counts == {"written": 1, "unchanged": 0, "left to other programs": 1} and not failed
        assert sidecars.export(gallery)[0]["unchanged"] == 1
    assert (album / "b.jpg.xmp").read_bytes() != first
    # A gallery that is made again has the names from there.
    (album / "b.xmp").unlink()
    other = indexing.index_photographs(tmp_path / "again", [str(album)], people="none",
                                       data_dir=tmp_path, read_xmp=True)
    assert other.counts["named by sidecars"] == 2
    with Gallery.open(tmp_path / "again") as gallery:
        assert set(gallery.names.values()) == {"Ann Lee", "Zo\u00eb"}
    # What somebody says in the gallery counts more; without a name, our sidecar goes.
    with Gallery.open(tmp_path / "gallery") as gallery:
        named = next(face.id for face in gallery.faces(gallery.ids) if face.name == "Zo\u00eb")
    people.reject(tmp_path / "gallery", [named])
    indexing.add(tmp_path / "gallery", data_dir=tmp_path, read_xmp=True)
    assert names(tmp_path)["b.jpg", 0] is None
    with Gallery.open(tmp_path / "gallery") as gallery:
        sidecars.export(gallery)
    assert not (album / "b.jpg.xmp").exists()


def test_a_sidecar_of_ours_that_another_program_has_changed_stays(tmp_path, album):
    index(tmp_path)
    with Gallery.open(tmp_path / "gallery") as gallery:
        face = next(face for face in gallery.faces(gallery.ids)
                    if face.photograph.endswith("b.jpg"))
    people.name_faces(tmp_path / "gallery", [face.id], "Bob")
    with Gallery.open(tmp_path / "gallery") as gallery:
        sidecars.export(gallery)
    sidecar = album / "b.jpg.xmp"
    for old, new in ((b'rdf:about=""', b'rdf:about="" xmlns:xmp="x" xmp:Rating="4"'),
                     (b"</rdf:Description></rdf:RDF>",
                      b'<a xmlns="y"/></rdf:Description></rdf:RDF>'),
                     (b'"DCBH face search"', b'"XMP Core 5.6"')):
        data = sidecar.read_bytes()
        assert data.count(old) == 1
        sidecar.write_bytes(data.replace(old, new))
        people.rename(tmp_path / "gallery", "Bob", "Bob")
        with Gallery.open(tmp_path / "gallery") as gallery:
            assert sidecars.export(gallery)[0]["left to other programs"] == 1
        assert sidecar.read_bytes() == data.replace(old, new)
        sidecar.write_bytes(data)


def test_what_cannot_be_exported(tmp_path, album, capsys):
    index(tmp_path)
    gallery = tmp_path / "gallery"
    with Gallery.open(gallery) as opened:
        ids = opened.ids.tolist()
    for number, face in enumerate(ids):
        people.name_faces(gallery, [face], f"Person {number}")
    with (album / "a.jpg").open("ab") as stream:
        stream.write(b"x")
    (album / "b.jpg").unlink()
    os.mkfifo(str(album / "c.jpg.xmp"))
    with pytest.raises(Failed):
        search.main(["export", str(gallery), "--xmp"])
    assert capsys.readouterr().err.count("not written: ") == 3
    with pytest.raises(UserError):
        search.main(["export", str(gallery)])
    assert sorted(path.name for path in album.iterdir()) == ["a.jpg", "c.jpg", "c.jpg.xmp"]
