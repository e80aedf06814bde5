"""Reads the report pages: elements, table rows, sections and embedded pictures."""

import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO

import numpy
from PIL import Image

VOID = {"meta", "img", "input", "link", "br", "hr", "source"}


class Page(HTMLParser):
    """Elements as (tag, attributes, inner text), in the order of their opening tags. Fails on mismatched tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[list] = []
        self.open: list[list] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag):
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]


def decoded(uri: str) -> numpy.ndarray:
    return numpy.asarray(Image.open(BytesIO(b64decode(uri.partition(";base64,")[2]))))


def rows_of(page: str) -> list[str]:
    return re.findall(r"<tr>.*?</tr>", page, re.DOTALL)


def section(page: str, name: str) -> str:
    (found,) = re.findall(rf'<section aria-labelledby="{name}">.*?</section>', page, re.DOTALL)
    return found
