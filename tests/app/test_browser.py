"""A real browser walks the page: what people do, and what no page may do (call other hosts).

Needs the extra ``app``, playwright and a chromium; skipped without. Screenshots go to the folder
that NASPIX_SCREENSHOTS names, for the documentation.
"""

import importlib.util
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
        self.tab.wait_for_selector(".nx[data-state=open]")

    def _block(self, route) -> None:
        self.outside.append(route.request.url)
        route.abort()

    def choose_sample(self, what: str) -> None:
        self.tab.click(f'[aria-label="Sample: {what}"]')
        self.settle()

    def settle(self) -> None:
        """Until the photo is there and drawn and nothing is under way."""
        self.tab.wait_for_selector(".nx[data-state=ready]")
        self.tab.wait_for_selector("[data-part=bars] tr")

    def wait_hidden(self, numbers: list[int]) -> None:
        """Until the server has answered that these are hidden."""
        words = " ".join(map(str, sorted(numbers)))
        self.tab.wait_for_selector(f'.nx[data-hidden="{words}"]')

    def click_superpixel(self, x: float, y: float) -> None:
        """Click on the picture, at a share of its width and height."""
        box = self.tab.locator("[data-part=canvas]").bounding_box()
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
        return self.tab.evaluate(
            "([x, y]) => { const c = document.querySelector('[data-part=canvas]');"
            "return [...c.getContext('2d').getImageData(x * c.width, y * c.height, 1, 1).data]; }",
            [x, y],
        )[:3]

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
    box = page.tab.locator("[data-part=canvas]").bounding_box()
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


def test_upload_drop_and_paste(page, tmp_path):
    path = tmp_path / "<b>my rocket<b>.jpg"
    Image.fromarray(sample_image("rocket")).save(path)
    page.tab.set_input_files("[data-part=file]", path)
    page.settle()
    assert page.tab.inner_text("[data-part=name]") == path.name  # as text
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
        page.tab.wait_for_function(
            f"document.querySelector('[data-part=name]').textContent === '{kind}ed.png'"
        )
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
    page.settle()
    assert page.tab.inner_text("[data-part=name]") == "pasted"
    assert not sentence.is_visible()
    page.tab.wait_for_function(
        "(() => { const c = document.querySelector('[data-part=canvas]');"
        "return c.getContext('2d').getImageData(9, 9, 1, 1).data[1] > 100; })()"
    )
    assert page.color(0.5, 0.5) == [0, 128, 128]
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
    page.tab.locator(".nx-cut").scroll_into_view_if_needed()
    stage, cut = (page.tab.locator(one).bounding_box() for one in (".nx-stage", ".nx-cut"))
    assert stage["y"] >= 0  # the photo stays in sight beside the slider
    assert stage["y"] + stage["height"] < 1081
    assert cut["y"] + cut["height"] < 1081
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
    page.settle()
    assert page.tab.inner_text("[data-part=name]") == "rocket.jpg"
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
            frame.locator("[data-part=canvas]").click()
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
    page.settle()
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


def test_on_a_phone_there_is_one_column_and_nothing_sticks_out(chromium, address):
    page = Page(
        chromium,
        address,
        viewport={"width": 390, "height": 844},
        device_scale_factor=2,
        is_mobile=True,
        has_touch=True,
    )
    page.tab.tap('[aria-label="Sample: a tabby cat"]')
    page.settle()
    page.tab.tap("[data-part=canvas]")
    page.tab.wait_for_selector("[data-do=undo]:enabled")
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [
        page.tab.locator(one).bounding_box()
        for one in (".nx-stage", ".nx-says", ".nx-steps", ".nx-cut")
    ]
    assert len({round(box["x"]) for box in boxes}) == 1
    tops = [box["y"] for box in boxes]
    assert tops == sorted(tops)  # the bars come right below the photo
    page.tab.evaluate("document.querySelector('.nx-stage').scrollIntoView()")
    page.screenshot("phone")
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
    assert not other.tab.is_visible("[data-part=main]")
    other.close()
