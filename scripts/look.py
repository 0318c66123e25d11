#!/usr/bin/env python3
"""Opens pages in headless Chromium as phones and desks show them, in light and dark mode, and fails where something is wider than the screen.

    scripts/look.py page.html --screenshots folder/

Chromium is driven through its pipe for developer tools, so that no package of Python is needed.
"""

import argparse
import base64
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

WIDTHS = (360, 1280)
SCHEMES = ("light", "dark")

# What is wrong with a page: wider than the window, text cut off by its own box, or a script.
CHECK = """((width) => {
    const root = document.documentElement, faults = [];
    // A phone makes its window as wide as the page asks for, so that the window's own width proves nothing.
    if (root.scrollWidth > width || innerWidth > width) faults.push(`the page is ${Math.max(root.scrollWidth, innerWidth)} wide, not ${width}`);
    for (const e of document.querySelectorAll('main *, header *, footer *')) {
        const box = e.getBoundingClientRect();
        if (box.width > 0 && !e.closest('.scroll') && !e.closest('svg') &&
            (box.right > width + 1 || getComputedStyle(e).display === 'block' && e.scrollWidth > e.clientWidth + 1))
            faults.push(`${e.tagName} ${e.className} is ${e.scrollWidth} wide and ends at ${Math.round(box.right)} of ${width}: ${e.textContent.slice(0, 40)}`);
    }
    if (document.scripts.length) faults.push(`${document.scripts.length} scripts`);
    if (performance.getEntriesByType('resource').length) faults.push('something was loaded');
    const small = [...document.querySelectorAll('main *')].filter(e =>
        e.childElementCount === 0 && e.textContent.trim() && parseFloat(getComputedStyle(e).fontSize) < 11 && e.getClientRects().length);
    if (small.length) faults.push(`${small.length} texts are below 11 pixels, such as ${small[0].textContent.slice(0, 40)}`);
    const shown = [...document.querySelectorAll('svg')].filter(e => e.getClientRects().length);
    for (const svg of shown) {
        const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
        for (const text of svg.querySelectorAll('text')) {
            const box = text.getBBox(), view = svg.viewBox.baseVal;
            if (box.x < 0 || box.x + box.width > view.width || box.y + box.height > view.height)
                faults.push(`in a chart is cut off: ${text.textContent}`);
            if (parseFloat(getComputedStyle(text).fontSize) * scale < 9.5) faults.push(`in a chart is too small: ${text.textContent}`);
        }
    }
    return JSON.stringify({faults, height: root.scrollHeight, sections: document.querySelectorAll('section').length});
})"""


class Browser:
    """Chromium, and the messages to and from it: JSON between zero bytes on its file descriptors 3 and 4."""

    def __init__(self, profile):
        program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
        if program is None:
            sys.exit("look.py: there is no chromium; install the package chromium")
        theirs_in, self.out = os.pipe()
        self.input, theirs_out = os.pipe()

        def place():
            # First out of the way of 3 and 4, then there.
            first, second = os.dup(theirs_in), os.dup(theirs_out)
            high = [os.dup2(first, 200), os.dup2(second, 201)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        options = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   "--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen([program, *options], preexec_fn=place, close_fds=False,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.numbers, self.rest, self.events = itertools.count(1), b"", []

    def message(self):
        while b"\0" not in self.rest:
            more = os.read(self.input, 1 << 20)
            if not more:
                sys.exit("look.py: chromium has ended")
            self.rest += more
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        number = next(self.numbers)
        request = {"id": number, "method": method, "params": parameters}
        if session:
            request["sessionId"] = session
        os.write(self.out, json.dumps(request).encode() + b"\0")
        while (answer := self.message()).get("id") != number:
            self.events.append(answer.get("method"))
        if "error" in answer:
            sys.exit(f"look.py: {method}: {answer['error']['message']}")
        return answer["result"]

    def wait(self, event):
        while event not in self.events:
            self.events.append(self.message().get("method"))
        self.events.remove(event)


def look(browser, session, page, width, scheme, folder):
    """Opens the page once; returns what is wrong with it."""
    browser.call("Emulation.setDeviceMetricsOverride", session, width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
    browser.call("Emulation.setEmulatedMedia", session, features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.events.clear()
    browser.call("Page.navigate", session, url=page.resolve().as_uri())
    browser.wait("Page.loadEventFired")
    answer = browser.call("Runtime.evaluate", session, expression=f"{CHECK}({width})")["result"]
    if "value" not in answer:
        sys.exit(f"look.py: the check failed: {answer.get('description')}")
    found = json.loads(answer["value"])
    if folder:
        clip = {"x": 0, "y": 0, "width": width, "height": min(found["height"], 16000), "scale": 1}
        shot = browser.call("Page.captureScreenshot", session, format="png", captureBeyondViewport=True, clip=clip)
        (folder / f"{page.stem}-{width}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))
    if found["sections"] == 0:
        found["faults"].append("there is no section")
    return found["faults"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("pages", nargs="+", type=pathlib.Path)
    arguments.add_argument("--screenshots", type=pathlib.Path, help="folder for PAGE-WIDTH-SCHEME.png")
    arguments = arguments.parse_args()
    if arguments.screenshots:
        arguments.screenshots.mkdir(parents=True, exist_ok=True)
    passed = failed = 0
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(profile)
        try:
            target = browser.call("Target.createTarget", url="about:blank")["targetId"]
            session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            browser.call("Page.enable", session)
            for page, width, scheme in itertools.product(arguments.pages, WIDTHS, SCHEMES):
                faults = look(browser, session, page, width, scheme, arguments.screenshots)
                for fault in faults:
                    print(f"{page} at {width} pixels, {scheme}: {fault}")
                passed, failed = passed + (not faults), failed + bool(faults)
        finally:
            browser.process.kill()
            browser.process.wait()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
