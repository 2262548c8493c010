"""A real browser walks the page: what people do, and what no page may do (call other hosts).

Needs the extra ``app``, playwright and a chromium; skipped without. Screenshots go to the folder
that NASPIX_SCREENSHOTS names, for the documentation.
"""

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from explorer_process import explorer
from PIL import Image

import naspix
from naspix.app.hiding import hide
from naspix.app.photos import sample_image

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs the extra app"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]

WAIT = 60_000  # milliseconds, on a busy machine


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with explorer() as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    with playwright.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Page:
    """A page of the explorer, with what it did wrong."""

    def __init__(self, chromium, address: str, **context: object) -> None:
        # playwright waits for functions by eval, which the page's own policy forbids
        options = {"viewport": {"width": 1280, "height": 1080}, "bypass_csp": True, **context}
        self.context = chromium.new_context(**options)
        self.context.set_default_timeout(WAIT)
        self.outside: list[str] = []
        self.wrong: list[str] = []
        self.context.route(lambda url: not url.startswith(address), self._block)
        self.tab = self.context.new_page()
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        self.tab.goto(address)
        self.settle()  # it opens with a sample

    def _block(self, route) -> None:
        self.outside.append(route.request.url)
        route.abort()

    def choose_sample(self, what: str) -> None:
        token = self.tab.evaluate("state.belongs.photo")
        self.tab.click(f'[aria-label="Sample: {what}"]')
        self.tab.wait_for_function(f"state.belongs.photo !== '{token}'")
        self.settle()

    def settle(self) -> None:
        """Until the photo is there and drawn and nothing is under way."""
        self.tab.wait_for_selector(".nx[data-state=ready]")
        self.tab.wait_for_selector("[data-part=bars] tr")

    def named(self, name: str) -> None:
        """Until a photo of this name is there."""
        self.tab.locator("[data-part=name]").filter(has_text=name).wait_for()

    def wait_hidden(self, numbers: list[int]) -> None:
        """Until the server has answered that these are hidden."""
        words = " ".join(map(str, sorted(numbers)))
        self.tab.wait_for_selector(f'.nx[data-hidden="{words}"]')

    def click_superpixel(self, x: float, y: float) -> None:
        """Click on the picture, at a share of its width and height."""
        box = self.tab.locator("[data-part=frame]").bounding_box()
        self.tab.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])

    def bars(self) -> dict[int, float]:
        """Class -> probability with the hidden ones hidden."""
        rows = self.tab.locator("[data-part=bars] tr")
        return {
            int(rows.nth(i).get_attribute("data-index")): float(
                rows.nth(i).get_attribute("data-after")
            )
            for i in range(rows.count())
        }

    def color(self, x: float, y: float) -> list[int]:
        """What is drawn at a share of the picture's width and height."""
        box = self.tab.locator("[data-part=frame]").bounding_box()
        place = {"x": box["x"] + x * box["width"] - 1, "y": box["y"] + y * box["height"] - 1}
        seen = self.tab.screenshot(clip={**place, "width": 3, "height": 3})
        return [*Image.open(io.BytesIO(seen)).convert("RGB").getpixel((1, 1))]

    def screenshot(self, name: str, part: str = "") -> None:
        """Keep what is seen, or one part of the page, where NASPIX_SCREENSHOTS says."""
        folder = os.environ.get("NASPIX_SCREENSHOTS")
        if not folder:
            return
        self.tab.wait_for_timeout(500)
        path = Path(folder) / f"{name}.jpg"
        if part:
            self.tab.locator(part).screenshot(path=path, type="jpeg", quality=85)
        else:
            self.tab.screenshot(path=path, type="jpeg", quality=85)

    def download(self, what: str, folder: Path) -> Path:
        with self.tab.expect_download() as waiting:
            self.tab.click(f"[data-save={what}]")
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path

    def close(self) -> None:
        self.context.close()
        assert self.wrong == []
        assert self.outside == []


@pytest.fixture
def page(chromium, address) -> Iterator[Page]:
    page = Page(chromium, address)
    yield page
    page.close()


def test_click_a_superpixel_and_the_bars_become_the_python_interfaces(page, model):
    page.choose_sample("a tabby cat")
    images = model.load_images([sample_image("chelsea")])
    superpixels = naspix.NAS(model)(images).superpixels
    before = page.bars()
    expected = model.probabilities(images)[0].detach()
    assert before == pytest.approx({i: float(expected[i]) for i in before}, abs=1e-5)

    numbers = [int(superpixels[0, 112, 112]), int(superpixels[0, 200, 20])]
    page.click_superpixel(112.5 / 224, 112.5 / 224)
    page.wait_hidden(numbers[:1])
    page.click_superpixel(20.5 / 224, 200.5 / 224)
    page.wait_hidden(numbers)
    with torch.no_grad():
        expected = model.probabilities(hide(model, images, superpixels, numbers))[0]
    page.tab.wait_for_function(
        "document.querySelector('[data-part=bars] tr').dataset.after != "
        "document.querySelector('[data-part=bars] tr').dataset.before"
    )
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    after = page.bars()
    assert after == pytest.approx({i: float(expected[i]) for i in after}, abs=1e-5)
    page.tab.mouse.move(1, 1)
    assert page.color(112.5 / 224, 112.5 / 224) == [128, 128, 128]
    page.screenshot("touch")

    page.tab.click("[data-do=undo]")
    page.wait_hidden(numbers[:1])
    page.tab.click("[data-do=invert]")
    n = int(superpixels.max()) + 1
    page.wait_hidden([i for i in range(n) if i != numbers[0]])
    page.tab.click("[data-do=hide_all]")
    page.wait_hidden(list(range(n)))
    page.tab.click("[data-do=show_all]")
    page.wait_hidden([])
    assert page.bars() == pytest.approx(before, abs=1e-6)


def test_the_pointer_tells_what_lies_below(page, model):
    page.choose_sample("a tabby cat")
    images = model.load_images([sample_image("chelsea")])
    segmentation = naspix.NAS(model)(images)
    number = int(segmentation.superpixels[0, 112, 112])
    box = page.tab.locator("[data-part=frame]").bounding_box()
    page.tab.mouse.move(box["x"] + box["width"] / 2 + 1, box["y"] + box["height"] / 2 + 1)
    tip = page.tab.locator("[data-part=tip]")
    tip.wait_for(state="visible")
    share = float((segmentation.superpixels == number).double().mean())
    cluster = int(segmentation.clusters[0, 112, 112])
    heat = naspix.saliency.GradCAMPlusPlus(model)(images)
    mean = float(heat[segmentation.superpixels == number].mean())
    words = tip.inner_text()
    assert f"superpixel {number}" in words
    assert f"{100 * share:.1f} % of the photo, cluster {cluster}" in words
    assert f"mean saliency {mean:.3f}" in words
    assert re.search(r"rank \d+ of \d+", words)


def test_it_asks_for_a_first_click_and_tells_ahead_what_it_does(page):
    invitation = page.tab.locator("[data-part=invitation]")
    assert re.fullmatch(r"Click here: tiger cat \d+ % → \?", invitation.inner_text())
    page.tab.wait_for_function("state.alone")
    alone = page.tab.evaluate("state.alone")
    number = min(alone["of"], key=lambda one: alone["of"][one]["after"])
    assert page.tab.get_attribute(".nx-pulse", "data-number") == number
    x, y = page.tab.evaluate(f"state.regions.middle[{number}]")
    box = page.tab.locator("[data-part=frame]").bounding_box()
    page.tab.mouse.move(
        box["x"] + (x + 0.5) / 224 * box["width"], box["y"] + (y + 0.5) / 224 * box["height"]
    )
    after = alone["of"][number]["after"]
    tip = page.tab.locator("[data-part=tip]")
    points = round(100 * (alone["before"] - after))
    assert f"→ {100 * after:.1f} % (\u2212{points} points)" in tip.inner_text()
    page.click_superpixel((x + 0.5) / 224, (y + 0.5) / 224)
    page.wait_hidden([int(number)])
    assert page.bars()[282] == pytest.approx(after, abs=1e-5)
    assert invitation.inner_text() == ""
    page.tab.check("[name=nx-view][value=alone]", force=True)
    assert "takes from tiger cat" in page.tab.inner_text("[data-part=legend]")


def test_upload_drop_and_paste(page, tmp_path):
    path = tmp_path / "<b>my rocket<b>.jpg"
    Image.fromarray(sample_image("rocket")).save(path)
    page.tab.set_input_files("[data-part=file]", path)
    page.named(path.name)  # as text
    assert "missile" in page.tab.inner_text("[data-part=verdict]")
    for kind in ("paste", "drop"):
        page.tab.evaluate(
            """([kind, name]) => {
                const sheet = new OffscreenCanvas(64, 64), pen = sheet.getContext("2d");
                pen.fillStyle = "orange"; pen.fillRect(8, 8, 40, 40);
                return sheet.convertToBlob().then((blob) => {
                    const data = new DataTransfer();
                    data.items.add(new File([blob], name, { type: "image/png" }));
                    const event = kind === "paste"
                        ? new ClipboardEvent("paste", { clipboardData: data })
                        : new DragEvent("drop", { dataTransfer: data, cancelable: true });
                    document.dispatchEvent(event);
                });
            }""",
            [kind, f"{kind}ed.png"],
        )
        page.named(f"{kind}ed.png")
    (tmp_path / "no.png").write_bytes(b"<svg/>")
    page.tab.set_input_files("[data-part=file]", tmp_path / "no.png")
    sentence = page.tab.locator("[data-part=sentence]")
    sentence.wait_for(state="visible")
    assert "no.png is no picture" in sentence.inner_text()


def test_the_paste_button_reads_the_clipboard(chromium, address):
    page = Page(chromium, address)
    page.tab.click("[data-do=paste]")
    sentence = page.tab.locator("[data-part=sentence]")
    sentence.wait_for(state="visible")
    assert "press Ctrl+V instead" in sentence.inner_text()  # the browser has not allowed it
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    page.tab.evaluate("navigator.clipboard.writeText('words')")
    page.tab.click("[data-do=paste]")
    page.tab.wait_for_function(
        "document.querySelector('[data-part=sentence]').textContent.includes('no picture')"
    )
    page.tab.evaluate(
        """() => {
            const sheet = new OffscreenCanvas(64, 64), pen = sheet.getContext("2d");
            pen.fillStyle = "teal"; pen.fillRect(0, 0, 64, 64);
            return sheet.convertToBlob().then((blob) =>
                navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]));
        }"""
    )
    page.tab.click("[data-do=paste]")
    page.named("pasted")
    assert not sentence.is_visible()
    assert page.color(0.5, 0.2) == pytest.approx([0, 128, 128], abs=2)
    page.close()


def test_hide_step_by_step_and_the_curve_grows(page, model):
    page.choose_sample("a cup of espresso")
    page.tab.click("[data-do=step]")
    page.tab.wait_for_selector("[data-part=curve][data-done=false]")
    page.tab.wait_for_selector("[data-part=curve] >> text=1 of")
    page.tab.click("[data-do=play]")
    page.tab.wait_for_selector("[data-part=curve][data-done=true]")
    area = float(page.tab.get_attribute("[data-part=curve]", "data-area"))
    images = model.load_images([sample_image("coffee")])
    superpixels = naspix.NAS(model)(images).superpixels
    heat = naspix.saliency.GradCAMPlusPlus(model)(images)
    with torch.no_grad():
        expected = naspix.metrics.lerf(model, images, heat, superpixels=superpixels).auc
    assert area == pytest.approx(float(expected[0]), abs=1e-4)
    page.screenshot("curve", ".nx-steps")


def test_levels_clusters_and_the_slider_of_a_tree(page):
    page.choose_sample("a tabby cat")
    page.tab.fill("[data-part=k]", "9")
    page.tab.wait_for_function(
        "document.querySelector('[data-part=cut-note]').textContent.startsWith('9 clusters')"
    )
    page.tab.check("[data-part=levels] input[value='2']")
    page.tab.uncheck("[data-part=levels] input[value='3']")
    page.tab.click("text=Ward's tree")
    page.tab.wait_for_function("document.querySelector('[name=nx-algorithm][value=ward]').checked")
    page.tab.locator("[data-part=work]").wait_for(state="hidden")
    counts = []
    for k in (2, 11, 40):
        page.tab.fill("[data-part=k]", f"{k}")
        page.tab.wait_for_function(
            f"document.querySelector('[data-part=cut-note]').textContent.startsWith('{k} cluster')"
        )
        counts.append(int(page.tab.get_attribute(".nx", "data-superpixels")))
    assert counts == sorted(counts)
    assert page.tab.is_checked("[name=nx-algorithm][value=ward]")  # no late answer took it back
    assert page.tab.is_checked("[data-part=levels] input[value='2']")
    assert not page.tab.is_checked("[data-part=levels] input[value='3']")
    page.tab.click("text=Clusters >> nth=0")
    page.screenshot("ward")


def test_compare_contrast_and_save(page, tmp_path, model, chromium):
    page.choose_sample("a tabby cat")
    page.tab.click("[data-do=compare]")
    page.tab.wait_for_selector("[data-part=comparison] img")
    assert page.tab.locator("[data-part=comparison] figure").count() == 4 + 2 * 4
    page.tab.fill("[data-part=opacity]", "40")
    opacity = "getComputedStyle(document.querySelectorAll('.nx-stack img + img')[0]).opacity"
    assert page.tab.evaluate(opacity) == "0.4"
    page.screenshot("compare", ".nx-wide")

    page.tab.click("#nx-tab-contrast")
    page.tab.fill("[data-part=negative]", "tabby")
    page.tab.click("[data-do=contrast]")
    page.tab.wait_for_selector("[data-part=contrast] img")
    with torch.no_grad():
        logits = model(model.load_images([sample_image("chelsea")]))[0]
    words = page.tab.inner_text("[data-part=contrast]")
    assert f"tiger cat leads tabby by {float(logits[282] - logits[281]):.2f}" in words
    page.screenshot("contrast", ".nx-wide")
    named = page.tab.locator("[data-part=contrast] tbody tr").first
    number = int(named.get_attribute("data-number"))
    named.get_by_role("button", name=f"Hide superpixel {number}").click()
    page.wait_hidden([number])
    named.get_by_role("button", name=f"Show superpixel {number}").click()
    page.wait_hidden([])

    page.tab.click("#nx-tab-save")
    report = page.download("report", tmp_path)
    assert "naspix.NAS" in page.download("python", tmp_path).read_text()
    assert "naspix.NAS" in page.tab.inner_text("[data-part=code]")
    loaded = naspix.Segmentation.load(page.download("segmentation", tmp_path))
    assert loaded == naspix.NAS(model)(model.load_images([sample_image("chelsea")]))
    assert json.loads(page.download("coco", tmp_path).read_text())["annotations"]
    page.screenshot("save", ".nx-wide")

    context = chromium.new_context(offline=True)  # from disk, without a network
    tab = context.new_page()
    tab.goto(report.as_uri())
    assert "tiger cat" in tab.inner_text("body")
    widths = tab.evaluate("[...document.images].map((one) => one.naturalWidth)")
    assert widths
    assert min(widths) > 0
    context.close()


def test_everything_is_allowed_by_the_pages_own_policy(chromium, address, tmp_path):
    page = Page(chromium, address, bypass_csp=False)
    path = tmp_path / "rocket.jpg"
    Image.fromarray(sample_image("rocket")).save(path)
    page.tab.set_input_files("[data-part=file]", path)
    page.named("rocket.jpg")
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    page.tab.click("[data-do=compare]")
    page.tab.wait_for_selector("[data-part=comparison] img")
    widths = page.tab.evaluate(
        "[...document.querySelectorAll('.nx-stack img')].map((one) => one.naturalWidth)"
    )
    assert min(widths) > 0
    page.tab.click("#nx-tab-save")
    assert "<html" in page.download("report", tmp_path).read_text()
    page.tab.goto(f"{address}/docs")
    page.tab.wait_for_selector("text=POST /api/toggle")
    page.close()


def test_in_a_notebooks_frame_the_address_names_the_visitor(chromium, tmp_path):
    """A page of localhost frames one of 127.0.0.1: to a browser, these are different sites."""
    notebook = HTTPServer(("127.0.0.1", 0), _Notebook)
    threading.Thread(target=notebook.serve_forever, daemon=True).start()
    command = [sys.executable, "-W", "ignore", "-c", _CELL]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            _Notebook.cell = process.stdout.readline()
            context = chromium.new_context()
            tab = context.new_page()
            tab.goto(f"http://localhost:{notebook.server_port}/")
            frame = tab.frame_locator("iframe")
            frame.locator("[data-part=bars] tr").first.wait_for(timeout=WAIT)
            frame.locator("[data-part=frame]").click()
            frame.locator("[data-do=undo]:enabled").wait_for(timeout=WAIT)
            assert frame.locator("[data-part=verdict]").inner_text().startswith("It sees")
            context.close()
        finally:
            process.stdin.write("\n")
            notebook.shutdown()
            notebook.server_close()


_CELL = """
import naspix, skimage.data
model = naspix.load_model("efficientnet_lite0")
with naspix.explore(model, skimage.data.chelsea()) as explorer:
    print(explorer._repr_html_(), flush=True)
    input()
"""


class _Notebook(BaseHTTPRequestHandler):
    cell = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.cell.encode())

    def log_message(self, *_: object) -> None:
        pass


def test_no_other_page_shows_it_in_a_frame(chromium, address):
    notebook = HTTPServer(("127.0.0.1", 0), _Notebook)
    threading.Thread(target=notebook.serve_forever, daemon=True).start()
    _Notebook.cell = f'<iframe src="{address}/"></iframe>'
    context = chromium.new_context()
    tab = context.new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.goto(f"http://localhost:{notebook.server_port}/")
    tab.wait_for_timeout(500)
    assert any("frame-ancestors" in words for words in said)
    assert tab.frame_locator("iframe").locator(".nx").count() == 0
    context.close()
    notebook.shutdown()
    notebook.server_close()


def test_several_photos_of_one_class(page, tmp_path):
    cat = Image.fromarray(sample_image("chelsea"))
    paths = [tmp_path / f"cat-{i}.png" for i in range(3)]
    for path, picture in zip(
        paths,
        [cat, cat.transpose(Image.Transpose.FLIP_LEFT_RIGHT), cat.crop((60, 20, 420, 290))],
        strict=True,
    ):
        picture.save(path)
    page.choose_sample("a tabby cat")
    page.tab.click("#nx-tab-group")
    page.tab.set_input_files("[data-part=group-files]", paths)
    page.tab.wait_for_function(
        "document.querySelectorAll('[data-part=group-photos] img').length === 3"
    )
    page.tab.click("[data-do=group_study]")
    page.tab.wait_for_selector("[data-part=group] table")
    assert page.tab.locator("[data-part=group] tbody tr").count() == 6
    assert page.tab.locator("[data-part=group] figure").count() == 3
    assert "tiger cat" in page.tab.inner_text("[data-part=group]")
    page.screenshot("group", ".nx-wide")


@pytest.mark.parametrize(("method", "title"), [("rise", "RISE"), ("xrai", "XRAI")])
def test_long_work_is_told_and_cancelled(page, method, title):
    page.choose_sample("a tabby cat")
    page.tab.select_option("[data-part=method]", method)
    page.tab.wait_for_function("document.querySelector('[data-part=work-bar]').value > 0")
    assert re.fullmatch(rf"{title}, \d+ %.*", page.tab.inner_text("[data-part=work] > span"))
    page.tab.click("[data-do=cancel]")
    page.tab.locator("[data-part=work]").wait_for(state="hidden")
    assert page.tab.input_value("[data-part=method]") == "grad_cam_plus_plus"  # what still holds
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("[data-do=undo]:enabled")


def test_by_keyboard_alone(page):
    press = page.tab.keyboard.press

    def tab_to(selector: str) -> None:
        for _ in range(40):
            press("Tab")
            if page.tab.evaluate(f"document.activeElement?.matches({selector!r})"):
                return
        raise AssertionError(f"{selector} is not reached by Tab")

    tab_to("[aria-label='Sample: a rocket at its launch']")
    press("Enter")
    page.named("rocket.png")
    tab_to("[data-part=picture]")
    press("ArrowRight")
    first = page.tab.inner_text("[data-part=said]")
    assert first.startswith("superpixel ")
    press("ArrowDown")
    press("Enter")
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    assert page.tab.get_attribute(".nx", "data-hidden") != ""
    press("Control+z")
    page.wait_hidden([])
    tab_to("[data-do=hide_all]")
    press("Enter")
    page.tab.wait_for_function("document.querySelector('.nx').dataset.hidden.length > 2")
    tab_to("#nx-tab-compare")
    press("ArrowRight")
    assert page.tab.is_visible("#nx-contrast")


_TOGETHER = ("[data-part=picture]", "[data-part=bars]", "[data-part=curve] svg")


@pytest.mark.parametrize("what", ["a tabby cat", "an astronaut in her suit"])
def test_photo_bars_and_curve_are_in_sight_together(chromium, address, what):
    page = Page(chromium, address, viewport={"width": 1440, "height": 900})
    page.choose_sample(what)
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    for part in _TOGETHER:
        box = page.tab.locator(part).bounding_box()
        assert box["y"] >= 0, part
        assert box["y"] + box["height"] <= 900, part
    assert page.tab.locator("[data-part=picture]").bounding_box()["height"] > 420
    page.close()


def test_on_a_phone_there_is_one_column_and_the_verdict_stays(chromium, address):
    page = Page(
        chromium,
        address,
        viewport={"width": 390, "height": 844},
        device_scale_factor=2,
        is_mobile=True,
        has_touch=True,
    )
    page.tab.tap("[data-part=frame]")
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [
        page.tab.locator(one).bounding_box()
        for one in (".nx-stage", ".nx-says", ".nx-steps", ".nx-cut")
    ]
    assert len({round(box["x"]) for box in boxes}) == 1
    views = page.tab.locator(".nx-stage fieldset").bounding_box()
    assert views["x"] + views["width"] <= boxes[0]["x"] + boxes[0]["width"]
    tops = [box["y"] for box in boxes]
    assert tops == sorted(tops)  # the bars come right below the photo
    for part in _TOGETHER:
        box = page.tab.locator(part).bounding_box()
        assert box["y"] + box["height"] <= 844 - 40, part
    page.screenshot("phone")
    for part in (".nx-head", ".nx-cut", ".nx-wide"):
        page.tab.evaluate(f"document.querySelector('{part}').scrollIntoView()")
        box = page.tab.locator("[data-part=verdict]").bounding_box()
        assert 0 < box["y"] < box["y"] + box["height"] <= 844
    page.close()


_CONTRAST = """() => {
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const numbers = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = numbers(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.querySelector(".nx"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.checkVisibility()) continue;
    if (node.closest(":disabled, .nx-unseen")) continue;
    const style = getComputedStyle(node);
    const ink = node.closest("svg") ? style.fill : style.color;
    const pair = [light(numbers(ink)), light(ground(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${walker.currentNode.textContent.trim()}`);
  }
  return poor;
}"""
_UNNAMED = """() => [...document.querySelectorAll(".nx :is(button, input, select, [tabindex='0'])")]
  .filter((one) => one.checkVisibility() || one.type === "file" || one.type === "radio")
  .filter((one) => !(one.getAttribute("aria-label") || one.labels?.length || one.textContent.trim()
    || one.getAttribute("aria-labelledby"))).map((one) => one.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_and_every_control_has_a_name(chromium, address, scheme):
    page = Page(chromium, address, color_scheme=scheme)
    assert page.tab.evaluate(_CONTRAST) == []
    page.choose_sample("a cup of espresso")
    page.tab.click(".nx-list summary")
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    page.tab.locator("[data-part=tip]").wait_for(state="visible")
    assert page.tab.evaluate(_CONTRAST) == []
    assert page.tab.evaluate(_UNNAMED) == []
    for tab in ("contrast", "group", "save", "compare"):
        page.tab.click(f"#nx-tab-{tab}")
        assert page.tab.evaluate(_CONTRAST) == []
        assert page.tab.evaluate(_UNNAMED) == []
    light = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", light)[0]) > 128) == (scheme == "light")
    page.screenshot(f"page-{scheme}")
    page.close()


def test_a_reload_keeps_the_photo_and_another_page_has_none(page, chromium, address):
    page.choose_sample("a tabby cat")
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    hidden = page.tab.get_attribute(".nx", "data-hidden")
    page.tab.reload()
    page.settle()
    page.tab.wait_for_selector(f'.nx[data-hidden="{hidden}"]')
    other = Page(chromium, address)
    assert other.tab.get_attribute(".nx", "data-hidden") == ""
    other.close()


def test_a_duplicated_tab_is_a_page_of_its_own(page):
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    hidden = page.tab.get_attribute(".nx", "data-hidden")
    kept = page.tab.evaluate("JSON.stringify(sessionStorage)")
    other = page.context.new_page()
    other.add_init_script(f"Object.assign(sessionStorage, {kept})")  # as a duplicate has it
    other.goto(page.tab.url)
    other.wait_for_selector(".nx[data-state=ready]")
    other.click("[data-do=hide_all]")
    other.wait_for_selector("[data-do=undo]:enabled")
    page.tab.reload()
    page.settle()
    page.tab.wait_for_selector(f'.nx[data-hidden="{hidden}"]')


def test_a_photo_that_was_forgotten_is_told_and_sent_again(page):
    page.choose_sample("a rocket at its launch")
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    page.tab.evaluate("post('leave', {})")  # as after an hour, or a restart
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("text=The server had forgotten this photo")
    page.wait_hidden([])
    assert page.tab.inner_text("[data-part=name]") == "rocket.png"
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    assert not page.tab.is_visible("[data-part=sentence]")


def test_a_forgotten_photo_that_is_not_at_hand_is_told_and_no_click_is_shown(page):
    page.tab.reload()  # the page has no copy of it any more
    page.settle()
    page.tab.evaluate("post('leave', {})")
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("text=choose it again")
    page.tab.wait_for_timeout(500)
    assert page.tab.is_visible("text=choose it again")
    assert page.tab.evaluate("state.scores.hidden.length") == 0
    box = page.tab.locator("[data-part=sentence]").bounding_box()
    assert 0 < box["y"] < 1080  # in sight, wherever the page is scrolled to


def test_the_slider_and_a_click_at_once_hide_what_was_clicked(page, model):
    page.choose_sample("a tabby cat")
    page.tab.evaluate(
        """() => { part("k").value = 12; part("k").dispatchEvent(new Event("input"));
        const box = frame.getBoundingClientRect();
        frame.dispatchEvent(new MouseEvent("click",
            { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 })); }"""
    )
    page.tab.wait_for_function("state.regions.n_asked === 12")
    page.tab.wait_for_timeout(1000)
    images = model.load_images([sample_image("chelsea")])
    number = int(naspix.NAS(model, n_clusters=12)(images).superpixels[0, 112, 112])
    hidden = page.tab.get_attribute(".nx", "data-hidden")
    told = page.tab.is_visible("text=cut anew")
    assert hidden in ("", f"{number}")
    assert told or hidden


def test_another_cut_takes_comparisons_of_the_last_one_away_and_renews_the_lines(page):
    page.choose_sample("a tabby cat")
    page.tab.click("[data-do=compare]")
    page.tab.wait_for_selector("[data-part=comparison] img")
    page.tab.click("#nx-tab-save")
    page.tab.click("[data-save=python]")
    page.tab.wait_for_selector("[data-part=code] >> text=n_clusters=5")
    assert "skimage.data.chelsea()" in page.tab.inner_text("[data-part=code]")
    page.tab.fill("[data-part=k]", "12")
    page.tab.wait_for_selector("[data-part=code] >> text=n_clusters=12")
    assert page.tab.locator("[data-part=comparison] img").count() == 0
    page.click_superpixel(0.5, 0.5)
    number = page.tab.evaluate("state.scores.hidden[0]")
    page.tab.wait_for_selector(f"[data-part=code] >> text=tensor([{number}]")


def test_show_all_ends_a_film(page):
    page.choose_sample("a tabby cat")
    page.tab.click("[data-do=play]")
    page.tab.wait_for_function("state.scores.curve?.fraction.length > 2")
    page.tab.click("[data-do=show_all]")
    page.wait_hidden([])
    page.tab.wait_for_timeout(600)
    page.wait_hidden([])
    assert page.tab.inner_text("[data-do=play]") == "Play"
    assert not page.tab.is_visible("[data-part=sentence]")


def test_the_last_level_stays(page):
    page.choose_sample("a tabby cat")
    page.tab.uncheck("[data-part=levels] input[value='3']")
    page.tab.wait_for_function("state.regions.levels.length === 1")
    page.tab.click("[data-part=levels] input[value='4']")
    page.tab.wait_for_selector("text=At least one level is needed")
    assert page.tab.is_checked("[data-part=levels] input[value='4']")


def test_answers_are_told_apart_whatever_the_clock_says(page):
    page.tab.evaluate("{ const now = Date.now; Date.now = () => now() - 3_600_000; }")
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("[data-do=undo]:enabled")


def test_bars_legends_and_a_verdict_that_is_heard(page):
    page.choose_sample("a tabby cat")
    bars = page.tab.locator("[data-part=bars] .nx-bar")
    assert bars.count() == 5  # one a class before anything is hidden
    assert page.tab.get_attribute("[data-part=verdict]", "role") == "status"
    page.click_superpixel(0.5, 0.5)
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    assert bars.count() == 10
    probability = page.tab.evaluate("state.scores.bars[0].after")
    assert f"{100 * probability:.1f} %" in page.tab.inner_text("[data-part=verdict]")
    legend = page.tab.locator("[data-part=legend]")
    page.tab.check("[name=nx-view][value=saliency]", force=True)
    assert "mean saliency by Grad-CAM++ for tiger cat" in legend.inner_text()
    assert legend.locator(".nx-scale").count() == 1
    page.tab.check("[name=nx-view][value=clusters]", force=True)
    assert legend.locator(".nx-chip").count() == 5
    page.tab.click("[data-do=finish]")
    page.tab.wait_for_selector("[data-part=curve] svg >> text=LeRF of tiger cat")


def test_the_frame_is_drawn_where_it_lies_in_the_photo(page, tmp_path):
    path = tmp_path / "wide.png"
    Image.fromarray(sample_image("rocket")).resize((1600, 400)).save(path)
    page.tab.set_input_files("[data-part=file]", path)
    page.tab.wait_for_function("state.photo.name === 'wide.png'")
    page.tab.wait_for_function("part('photo').naturalWidth === 1600")  # as sharp as it came

    def shares() -> list[float]:
        photo = page.tab.locator("[data-part=photo]").bounding_box()
        frame = page.tab.locator("[data-part=frame]").bounding_box()
        left = (frame["x"] - photo["x"]) / photo["width"]
        return [left, frame["width"] / photo["width"], frame["height"] / photo["height"]]

    scale = 256 / 224  # efficientnet_lite0 takes 224 of 256 pixels a side
    across, down = 0.25 / scale, 1 / scale
    assert shares() == pytest.approx([(1 - across) / 2, across, down], abs=0.01)
    assert "of 1600 x 400." in page.tab.inner_text("[data-part=told]")
    page.tab.select_option("[data-part=fitting]", "squash")
    page.tab.wait_for_function("state.photo.fitting === 'squash'")
    assert shares() == pytest.approx([0, 1, 1], abs=0.01)
    assert page.tab.inner_text("[data-part=told]") == ""
    page.tab.select_option("[data-part=fitting]", "pad")
    page.tab.wait_for_function("state.photo.fitting === 'pad'")
    assert shares() == pytest.approx([0, 1, 4], abs=0.05)


def test_a_network_that_cannot_be_loaded_is_not_left_chosen(chromium, tmp_path):
    (tmp_path / "resnet18-broken.safetensors").write_bytes(b"no such thing")
    with explorer("--models", str(tmp_path)) as address:
        page = Page(chromium, address)
        page.tab.select_option("[data-part=network]", "resnet18-broken")
        page.tab.wait_for_selector("text=the network resnet18-broken cannot be loaded")
        assert str(tmp_path) not in page.tab.inner_text("body")
        assert page.tab.input_value("[data-part=network]") == "efficientnet_lite0"
        page.click_superpixel(0.5, 0.5)
        page.tab.wait_for_selector("[data-do=undo]:enabled")
        page.close()
