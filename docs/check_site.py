"""Visit every page of the built handbook as people do, with headless Chromium.

python docs/check_site.py [--site docs/_build/html] [--shots FOLDER [PAGE ...]]

At 1,280 and 375 pixels, in light and dark: no error on the console, no picture missing, no link inside the site that
leads nowhere, nothing wider than the window, text that can be told from its background. "Edit this page" leads to a
file of the repository, and the search finds each public name. Where there is no Chromium this says so and ends well.

Chromium is driven through its DevTools protocol over a pipe: messages in JSON, each ended by a NUL. So nothing but the
standard library is needed.
"""

import argparse
import base64
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote, urldefrag, urlsplit

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SIZES = {1280: 900, 375: 800}
PATIENCE = 60  # seconds for a page; a busy machine is slow

# What a page says of itself: links and pictures, what is wider than the window, text that can hardly be read.
LOOK = """(() => {
  const width = document.documentElement.clientWidth;
  const seen = (element) => element.getClientRects().length > 0;
  const scrolls = (element) => {
    for (let at = element.parentElement; at; at = at.parentElement) {
      if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(at).overflowX)) return true;
    }
    return false;
  };
  const numbers = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const part = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.5) return colour;
    }
    return [255, 255, 255];
  };
  const contrast = (element) => {
    const two = [light(numbers(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    return (two[0] + 0.05) / (two[1] + 0.05);
  };
  const name = (e) => e.tagName.toLowerCase() + "." + e.className + " " + e.textContent.trim().slice(0, 60);
  const fixed = (e) => getComputedStyle(e).position === "fixed";
  const wide = [...document.querySelectorAll("body *")].filter(
    (e) => seen(e) && e.getBoundingClientRect().right > width + 1 && !scrolls(e) && !fixed(e)
  );
  const texts = [...document.querySelectorAll("article :is(p, li, td, th, h1, h2, dt, code)")];
  return {
    ways: document.querySelectorAll(".prev-next-area").length,
    scroll: document.documentElement.scrollWidth - width,
    wide: wide.slice(0, 3).map(name),
    links: [...document.querySelectorAll("a[href]")].map((a) => a.href),
    ids: [...document.querySelectorAll("[id], a[name]")].map((e) => e.id || e.name),
    pictures: [...document.images].filter((i) => !(i.complete && i.naturalWidth > 0)).map((i) => i.src),
    faint: texts.filter((e) => seen(e) && e.textContent.trim() && contrast(e) < 3).slice(0, 3).map(name),
    edit: [...document.querySelectorAll(".editthispage a, a[href*='/edit/main/']")].map((a) => a.href).slice(0, 1),
  };
})()"""
LAZY = "document.querySelectorAll('img[loading=lazy]').forEach((i) => (i.loading = 'eager'))"
PICTURES_DONE = "[...document.images].every((i) => i.complete)"


class Browser:
    """Chromium at the other end of two pipes."""

    def __init__(self, program):
        self.profile = tempfile.mkdtemp()
        to_read, self.to = os.pipe()
        self.out, to_write = os.pipe()
        options = (
            "--headless --no-sandbox --disable-gpu --hide-scrollbars --disable-dev-shm-usage --remote-debugging-pipe"
        )
        shell = f'exec "$0" {options} --user-data-dir="$1" about:blank 3<&{to_read} 4>&{to_write}'
        self.process = subprocess.Popen(
            ["sh", "-c", shell, program, self.profile],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read), os.close(to_write)
        self.number, self.buffer, self.events, self.session = 0, b"", [], None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def read(self):
        """Return the next message."""
        while b"\0" not in self.buffer:
            part = os.read(self.out, 1 << 16)
            if not part:
                raise RuntimeError("Chromium ended: expected it to stay until all pages are visited.")
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def ask(self, method, **params):
        """Send a command and return its result; events that come before it are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            got = self.read()
            if got.get("id") == self.number:
                if "error" in got:
                    raise RuntimeError(f"{method}: {got['error']['message']}")
                return got["result"]
            self.events.append(got)

    def value(self, expression):
        """Return what an expression of JavaScript gives on the page."""
        got = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in got:
            raise RuntimeError(f"{got['exceptionDetails']}")
        return got["result"].get("value")

    def wait(self, expression):
        """Wait until an expression is true on the page; say whether it became so."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.value(expression):
                return True
            time.sleep(0.02)
        return False

    def go(self, url):
        """Load a page, and wait for its pictures."""
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(urldefrag(url)[0])})")
        self.value(LAZY)
        self.wait(PICTURES_DONE)

    def show(self, width, scheme):
        """Give the window a width, and the reader a preference for light or dark."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=SIZES[width], deviceScaleFactor=1, mobile=False
        )
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def said(self):
        """Return the errors that came since the page was asked for."""
        wrong = []
        for event in self.events:
            params, method = event.get("params", {}), event.get("method")
            if method == "Runtime.exceptionThrown":
                wrong.append(params["exceptionDetails"].get("exception", {}).get("description", "an exception"))
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
                wrong.append(" ".join(str(part.get("value", "")) for part in params["args"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
                entry = params["entry"]
                if "127.0.0.1" in entry.get("url", "127.0.0.1"):  # without the network others cannot be had
                    wrong.append(f"{entry['text']} {entry.get('url', '')}")
        return wrong

    def shoot(self, path, whole=False):
        """Save what the window shows."""
        got = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(got["data"]))

    def close(self):
        """End it."""
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *args):
        """Say nothing."""


def serve(folder):
    """Serve a folder on this machine; return the server and its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}/"


def pages_of(site):
    """Return the site's pages, as paths."""
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html") if "_static" not in path.parts)


def look_at(browser, page, address, found):
    """Visit one page in both widths and both schemes; return what is wrong."""
    wrong = []
    for width, scheme in ((1280, "light"), (1280, "dark"), (375, "dark"), (375, "light")):
        browser.show(width, scheme)
        if (width, scheme) in ((1280, "light"), (375, "dark")):  # then the scheme changes while the page is open
            browser.go(address + page)
        if not browser.wait(f"document.documentElement.dataset.theme === '{scheme}'"):
            wrong.append(f"{page} at {width}: stays as it is where {scheme} is preferred")
        seen = browser.value(LOOK)
        wrong += [f"{page} at {width}: says {text}" for text in browser.said()]
        if seen["ways"] > 1:
            wrong.append(f"{page}: leads to the next page {seen['ways']} times")
        wrong += [f"{page}: the picture {source} is missing" for source in seen["pictures"]]
        if seen["scroll"] > 1 or seen["wide"]:
            wrong.append(f"{page} at {width}: {seen['scroll']} pixels wider than the window {seen['wide']}")
        wrong += [f"{page} at {width}, {scheme}: hardly to be read: {text}" for text in seen["faint"]]
        found.setdefault(page, (set(seen["ids"]), set(seen["links"]), seen["edit"]))
    return wrong


def dead_links(found, site, address):
    """Return the links inside the site that lead nowhere."""
    wrong = []
    for page, (_, links, edit) in found.items():
        for link in links:
            if not link.startswith(address):
                continue
            parts = urlsplit(link)
            path, name = unquote(parts.path).lstrip("/") or "index.html", unquote(parts.fragment)
            if path.endswith("/"):
                path += "index.html"
            if not (site / path).is_file():
                wrong.append(f"{page}: the link to {path} leads nowhere")
            elif name and path in found and name not in found[path][0]:
                wrong.append(f"{page}: {path} has no place {name!r}")
        if not edit and not page.endswith(("search.html", "genindex.html", "py-modindex.html")):
            wrong.append(f"{page}: nothing leads to its source")
        for link in edit:
            path = link.partition("/edit/main/")[2]
            if not (ROOT / path).is_file():
                wrong.append(f"{page}: 'edit this page' leads to {path!r}, which is no file")
    return wrong


def public_names(site):
    """Return the names that the reference documents, with their pages."""
    return {path.stem: f"reference/{path.name}" for path in (site / "reference").glob("skmlmc.*.html")}


def search(browser, address, site):
    """Return the public names that the search does not find."""
    wrong, names = [], public_names(site)
    if len(names) < 60:
        wrong.append(f"Expected a page for each public name, but found {len(names)}.")
    browser.show(1280, "light")
    for name, page in sorted(names.items()):
        browser.go(f"{address}search.html?q={quote(name.rpartition('.')[2])}")
        if not browser.wait(
            f"[...document.querySelectorAll('#search-results a')].some((a) => a.href.includes({json.dumps(page)}))"
        ):
            wrong.append(f"the search does not find {name}")
    return wrong


def sorts(browser, address):
    """Say what is wrong with sorting a table."""
    browser.show(1280, "light")
    browser.go(address + "results/architectures.html")
    first = "document.querySelector('article table tbody tr td').textContent.trim()"
    before = browser.value(first)
    browser.value("document.querySelector('article table th').click()")
    browser.value("document.querySelector('article table th').click()")
    moved = browser.value(first) > before
    return [] if moved else [f"results/architectures.html: a click does not sort, {before!r} stays first"]


def take_shots(browser, address, folder, pages):
    """Save pictures of pages in both widths, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    for page in pages:
        for width, scheme in ((1280, "light"), (375, "light"), (1280, "dark")):
            browser.show(width, scheme)
            browser.go(address + page)
            browser.shoot(folder / f"{page.replace('/', '_').removesuffix('.html')}-{width}-{scheme}.png")


def main(argv=None):
    """Check the site; exit with the list of what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", type=Path, default=DOCS / "_build" / "html")
    parser.add_argument("--shots", nargs="+", metavar=("FOLDER", "PAGE"), help="only save pictures of pages")
    given = parser.parse_args(argv)
    if not (given.site / "index.html").is_file():
        sys.exit(f"Expected a built site in {given.site}: run make -C docs html.")
    program = next(filter(None, map(shutil.which, (os.environ.get("CHROMIUM", ""), *BROWSERS))), None)
    if program is None:
        print(f"not checked: no Chromium (looked for {', '.join(BROWSERS)}; CHROMIUM= names another)")
        return
    (server, address), browser, start = serve(given.site), Browser(program), time.monotonic()
    try:
        if given.shots:
            take_shots(browser, address, Path(given.shots[0]), given.shots[1:] or ["index.html"])
            return
        pages, found, wrong = pages_of(given.site), {}, []
        for page in pages:
            wrong += look_at(browser, page, address, found)
        wrong += dead_links(found, given.site, address) + search(browser, address, given.site) + sorts(browser, address)
    finally:
        browser.close()
        server.shutdown()
    if wrong:
        sys.exit("\n".join(wrong))
    sizes, seconds = " and ".join(map(str, SIZES)), time.monotonic() - start
    print(f"{len(pages)} pages at {sizes} pixels, light and dark: sound, in {seconds:.0f} s")


if __name__ == "__main__":
    main()
