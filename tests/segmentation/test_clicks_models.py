"""The models that the click network's training pictures are made of: what is read of an OBJ file."""

import cv2
import numpy as np

from videopainter.segmentation.clicks.training.models import read_obj
from videopainter.segmentation.clicks.training.render import render, rotation
from videopainter.segmentation.clicks.training.sources import household_files

SQUARE = """mtllib my looks.mtl
v -1 -1 0
v 1 -1 0
v 1 1 0
v -1 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl red
f 1/1 2/2 3/3 4/4
usemtl picture
f -4/1 -3/2 -2/3 -1/4
usemtl glass
f 1 2 3
"""
LOOKS = """newmtl red
Kd 1 0 0
newmtl picture
Kd 0 0 0
map_Kd blue.png
newmtl glass
Kd 1 1 1
d 0.1
"""


def written(folder, text: str = SQUARE, copies: int = 8):
    (folder / "my looks.mtl").write_text(LOOKS)
    cv2.imwrite(str(folder / "blue.png"), np.full((4, 4, 3), (250, 0, 0), np.uint8))
    head, _, faces = text.partition("usemtl red")
    (folder / "square.obj").write_text(head + copies * ("usemtl red" + faces))
    return folder / "square.obj"


def test_materials_textures_and_corners_counted_from_the_end(tmp_path):
    mesh = read_obj(written(tmp_path))
    assert len(mesh.triangles) == 8 * 4  # two squares of two triangles each; glass is left out
    np.testing.assert_array_equal(mesh.materials[0], (0, 0, 255))
    assert mesh.materials[1].shape == (4, 4, 4) and tuple(mesh.materials[1][0, 0]) == (250, 0, 0, 255)
    first, last = mesh.triangles[0], mesh.triangles[2]
    np.testing.assert_array_equal(first, (0, 1, 2))
    np.testing.assert_array_equal(last, first)
    np.testing.assert_array_equal(mesh.uv[3], ((0, 0), (1, 1), (0, 1)))


def test_it_can_be_seen(tmp_path):
    mesh = read_obj(written(tmp_path, SQUARE.replace("f -4/1 -3/2 -2/3 -1/4\n", ""), copies=20))
    picture, parts = render(mesh, rotation(), 32, np.random.default_rng(0))
    assert (parts == 1).mean() > 0.7
    assert (picture[parts == 1][:, 2] > picture[parts == 1][:, 0]).all()


def test_what_is_no_model_is_none(tmp_path):
    path = written(tmp_path)
    assert read_obj(path, most_triangles=10) is None
    path.write_text("f 1 2 3\n" * 30)
    assert read_obj(path) is None
    path.write_text("v a b c\n")
    assert read_obj(path) is None
    assert read_obj(tmp_path / "none.obj") is None
    path = written(tmp_path)
    (tmp_path / "my looks.mtl").write_text("Kd 1 0 0\n")  # a colour before any material has a name
    assert read_obj(path) is None


def test_things_of_a_catalogue_without_doors(tmp_path):
    folder = tmp_path / "sweethome3d-furniture" / "shop"
    folder.mkdir(parents=True)
    for name in ("lamp", "door"):
        (folder / f"{name}.obj").write_text("")
    (folder / "PluginFurnitureCatalog.properties").write_text(
        "model#1=/lamp.obj\ndoorOrWindow#1=false\nmodel#2=/door.obj\ndoorOrWindow#2=true\nmodel#3=/away.obj\n"
    )
    assert household_files(tmp_path) == [folder / "lamp.obj"]
