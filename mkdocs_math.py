"""A hook of mkdocs.yml: formulas become MathML, which browsers show without a script."""

import html
import re

from latex2mathml.converter import convert

LOG = re.compile(r"<mi>log</mi>(?!<mo[ >])")  # before a bracket there is no space
FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[\[(](?P<latex>.*?)\\[\])]</(?P=tag)>', re.S
)


def on_page_content(content: str, /, **_: object) -> str:
    """Every formula that arithmatex has marked, converted."""

    def to_mathml(match: re.Match[str]) -> str:
        is_block = match["tag"] == "div"
        latex = html.unescape(match["latex"]).strip()
        mathml = convert(latex, display="block" if is_block else "inline")
        mathml = LOG.sub('<mi>log</mi><mspace width="0.17em"/>', mathml)  # browsers leave none
        # on a phone the formula scrolls, and not the page
        return f'<div style="overflow-x: auto">{mathml}</div>' if is_block else mathml

    return FORMULA.sub(to_mathml, content)
