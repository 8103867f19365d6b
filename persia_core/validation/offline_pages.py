"""Pages of Great Expectations that are whole by themselves: what they load from the network, taken out.

They come with Bootstrap, icons and scripts from content delivery networks; without these they have no layout
and their folded parts cannot be opened. A style sheet of ours (templates/data_docs.css) stands in.
"""

import re
from pathlib import Path

_STYLES = Path(__file__).parent / "templates" / "data_docs.css"

_LOADED = re.compile(
    r"<script\b.*?</script\s*>"  # also those within the page: they need the ones that are loaded
    r"|<link\b[^>]*>"
    r"|<img\b[^>]*>"
    r"|<footer\b.*?</footer\s*>"  # an advertisement
    r"|@font-face\s*\{[^}]*\}"
    r"|background:\s*url\([^)]*\)[^;}]*;?",
    re.IGNORECASE | re.DOTALL,
)
_HOME = re.compile(r'href="((?:\.\./)+)index\.html"')
_END_OF_HEAD = re.compile(r"</head\s*>", re.IGNORECASE)


def offline(page: str) -> str:
    """The HTML of a page of the site, without anything that is loaded, and with our styles.

    Its links home go to the page above the site.
    """
    plain = _HOME.sub(r'href="\1../index.html"', _LOADED.sub("", page))
    head, end, body = _split(plain)
    return f"{head}<style>\n{_STYLES.read_text(encoding='utf-8')}</style>\n{end}{body}"


def _split(page: str) -> tuple[str, str, str]:
    found = _END_OF_HEAD.search(page)
    if found is None:
        raise ValueError("the page has no head; did Great Expectations change its pages?")
    return page[: found.start()], found[0], page[found.end() :]
